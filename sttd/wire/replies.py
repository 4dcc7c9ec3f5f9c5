"""What the daemon answers on the control socket: a closed union, one reply for each request.

Every reply wraps a struct of `views` (or an `Error`) under a tag, so that the JSON shown to users
is exactly the view. Clients ignore fields they do not know; daemons may add some.
"""

from __future__ import annotations

import msgspec

from sttd.wire.codes import Code
from sttd.wire.lives import ConfigView, LivesView, WhyView
from sttd.wire.memory import CurvesView, MemoryView
from sttd.wire.views import (
    DrainView,
    EventsView,
    JobDetailView,
    JobsView,
    JobView,
    RecycleView,
    ReloadView,
    RetriedView,
    ScaleView,
    SegmentsView,
    StatusView,
    SubmittedView,
    VersionView,
    WorkersView,
)


class _Reply(msgspec.Struct, frozen=True, tag_field="reply", tag=str.lower):
    """What every reply has: its name in lower case under `reply`."""


class Error(_Reply, frozen=True, kw_only=True):
    """Refused. `code` is a value of `codes.Code`; `hint` says what to do, or names near ids."""

    code: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, code: Code, message: str, hint: str = "") -> Error:
        """The usual way to make one, so that no code is spelled by hand."""
        return cls(code=code.value, message=message, hint=hint)


class Status(_Reply, frozen=True):
    """To `Status`."""

    status: StatusView


class Drained(_Reply, frozen=True):
    """To `Drain`, `Resume` and `WaitDrained`."""

    drain: DrainView


class Submitted(_Reply, frozen=True):
    """To `SubmitCommit`, `SubmitPath`, `SubmitUrl`, and to `SubmitOpen` when the key is known."""

    job: SubmittedView


class Opened(_Reply, frozen=True):
    """To `SubmitOpen`: send chunks for this upload, the next one from `offset` (0 at first)."""

    upload: str
    offset: int = 0


class Received(_Reply, frozen=True):
    """To `SubmitChunk` and `SubmitAbort`: bytes held so far, the next chunk's offset."""

    upload: str
    offset: int


class Jobs(_Reply, frozen=True):
    """To `Jobs` and `Wait`."""

    jobs: JobsView


class Segments(_Reply, frozen=True):
    """To `Segments`."""

    segments: SegmentsView


class OneJob(_Reply, frozen=True, tag="job"):
    """To `Cancel` and `Retry(job)`: the job as it is now."""

    job: JobView


class Detail(_Reply, frozen=True):
    """To `Show`."""

    job: JobDetailView


class Retried(_Reply, frozen=True):
    """To `Retry(all_failed)`."""

    retried: RetriedView


class Workers(_Reply, frozen=True):
    """To `Workers`."""

    workers: WorkersView


class Lives(_Reply, frozen=True):
    """To `Lives`."""

    lives: LivesView


class Explained(_Reply, frozen=True):
    """To `Why`."""

    why: WhyView


class Memory(_Reply, frozen=True):
    """To `Memory`."""

    memory: MemoryView


class Curves(_Reply, frozen=True):
    """To `MemoryHistory`."""

    history: CurvesView


class Config(_Reply, frozen=True):
    """To `Config`."""

    config: ConfigView


class Recycling(_Reply, frozen=True):
    """To `Recycle`."""

    recycle: RecycleView


class Scaled(_Reply, frozen=True):
    """To `Scale`."""

    scale: ScaleView


class Reloaded(_Reply, frozen=True):
    """To `Reload`."""

    reload: ReloadView


class Events(_Reply, frozen=True):
    """To `Events`."""

    events: EventsView


class Version(_Reply, frozen=True):
    """To `Version`."""

    version: VersionView


class Fetched(_Reply, frozen=True, kw_only=True):
    """To `Fetch`: the bytes travel in one binary frame behind this.

    `size` is the whole output's, in bytes; it is complete when `offset` plus the frame's length
    reaches it.
    """

    size: int
    offset: int


Reply = (
    Error
    | Status
    | Drained
    | Submitted
    | Opened
    | Received
    | Jobs
    | Segments
    | OneJob
    | Detail
    | Retried
    | Workers
    | Lives
    | Explained
    | Memory
    | Curves
    | Config
    | Recycling
    | Scaled
    | Reloaded
    | Events
    | Version
    | Fetched
)


_decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode(reply: Reply) -> bytes:
    """The reply's JSON frame."""
    return msgspec.json.encode(reply)


def decode(body: bytes) -> Reply:
    """The reply in a JSON frame; raises `msgspec.DecodeError` when it is none."""
    return _decoder.decode(body)
