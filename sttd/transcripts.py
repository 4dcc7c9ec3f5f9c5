"""Words, segments and transcripts: what an engine yields and what is published.

Values only. Layouts (json, txt, srt, vtt, azure) live in `sttd.layouts`; nothing here reads
or writes a file.
"""

from __future__ import annotations

import msgspec


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A word with its place; seconds from the start of the recording."""

    start_s: float
    end_s: float
    text: str


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A final piece of the transcript; seconds from the start of the recording.

    `confidence` is between 0 and 1. `speaker` and `language` are None where the engine cannot tell.
    """

    start_s: float
    end_s: float
    text: str
    speaker: str | None = None
    language: str | None = None
    confidence: float | None = None
    words: tuple[Word, ...] = ()


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The recording as it arrived: name beneath the inbox, content hash, length in bytes."""

    name: str
    sha256: str
    bytes: int
    duration_s: float


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which engine spoke."""

    name: str
    version: str


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """The whole result of a job; `created` is UTC as 2026-01-31T12:00:00.000Z.

    `resumed_at_s` has one entry for each attempt that went on where an earlier one had stopped.
    """

    schema: str = "sttd.transcript/1"
    job_id: str
    source: Source
    engine: EngineInfo
    languages: tuple[str, ...]
    created: str
    text: str
    attempts: int
    resumed_at_s: tuple[float, ...] = ()
    segments: tuple[Segment, ...] = ()
