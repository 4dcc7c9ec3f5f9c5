"""The lines of a job's journal, segments.jsonl: written by workers, read by the supervisor, too.

One JSON value a line. A `Began` opens each attempt; with `resume = "restart"` a journal begins
anew, so its first line tells which incarnation of it this is. Values only.
"""

from __future__ import annotations

import msgspec

from sttd.transcripts import Segment

NAME = "segments.jsonl"  # in the job's folder in the spool
SDK_LOG = "sdk.log"  # likewise: what the engine's library logs, where the job asked for it


class Began(msgspec.Struct, frozen=True, tag="began"):
    """An attempt began to listen at `start_s` seconds."""

    attempt: int
    start_s: float


class Said(msgspec.Struct, frozen=True, tag="said", omit_defaults=True):
    """A final segment, and how much of the recording the engine had been given by then.

    `heard_s` is None for an engine that reads the recording itself, and in older journals.
    """

    segment: Segment
    heard_s: float | None = None


Line = Began | Said
