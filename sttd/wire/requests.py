"""What sttctl and other clients may ask of the daemon: a closed union, JSON, strict, bounded.

A request is two or three ZeroMQ frames: an opaque correlation id of at most 32 bytes, which comes
back with the answer (a REQ socket's empty delimiter will do), this JSON, and for `SubmitChunk` one
binary frame. `v` is the protocol's version. Unknown verbs and fields are refused by name.

Does no I/O and decides nothing: who may do what is `supervisor/access.py`'s to say.
"""

from __future__ import annotations

import functools
from typing import Annotated, get_args

import msgspec
from msgspec import Meta

from sttd.wire.asking import (
    CHUNK,
    MAX_BODY,
    MAX_CORRELATION,
    MAX_LISTED,
    MAX_WAIT_S,
    PROTOCOL,
    Asked,
    Instant,
    JobId,
    Key,
    Limit,
    Name,
    Offset,
    Priority,
    UploadId,
    WaitS,
    WorkerId,
)
from sttd.wire.codes import Code
from sttd.wire.job_requests import Cancel, Fetch, Jobs, Retry, Segments, Show, Wait
from sttd.wire.replies import Error

__all__ = [  # what is known by this module's name and written elsewhere
    "CHUNK",
    "MAX_BODY",
    "MAX_CORRELATION",
    "MAX_LISTED",
    "MAX_WAIT_S",
    "PROTOCOL",
    "Cancel",
    "Fetch",
    "Jobs",
    "Retry",
    "Segments",
    "Show",
    "Wait",
]


class Status(Asked, frozen=True, kw_only=True, tag="status"):
    """The whole picture. Answer: Status."""


class Drain(Asked, frozen=True, kw_only=True, tag="drain"):
    """Start no more jobs. Answered at once: Drained."""


class WaitDrained(Asked, frozen=True, kw_only=True, tag="wait_drained"):
    """Answered when nothing runs, draining was undone, or the time is over: Drained."""

    timeout_s: WaitS = 1.0


class Resume(Asked, frozen=True, kw_only=True, tag="resume"):
    """Undo a drain; probe an engine that is not ok. Answer: Drained."""


class _Submission(Asked, frozen=True, kw_only=True):
    """What the three ways of submitting share.

    `options` are the sidecar's, as in docs/protocol.md; what they say of priority yields to
    `priority` unless that is None. `key` makes it idempotent: known already, the answer is
    Submitted(duplicate=true) and nothing else happens.
    """

    options: dict[str, object] = msgspec.field(default_factory=dict)
    priority: Priority | None = None
    key: Key | None = None


class SubmitOpen(_Submission, frozen=True, kw_only=True, tag="submit_open"):
    """A recording of `bytes` bytes is about to be sent. Answer: Opened, or Submitted(duplicate).

    `name` is the file's name for people and for its outputs; folders in it are dropped.
    """

    name: Name
    bytes: Offset


class SubmitChunk(Asked, frozen=True, kw_only=True, tag="submit_chunk"):
    """The bytes from `offset` on, 1 to CHUNK of them, in the third frame. Answer: Received.

    Send the next one after the answer: that is the backpressure. A chunk sent twice is fine.
    """

    upload: UploadId
    offset: Offset


class SubmitCommit(Asked, frozen=True, kw_only=True, tag="submit_commit"):
    """All bytes were sent. Answered after the durable commit: Submitted. May be repeated."""

    upload: UploadId


class SubmitAbort(Asked, frozen=True, kw_only=True, tag="submit_abort"):
    """Forget the upload. Answer: Received."""

    upload: UploadId


class SubmitPath(_Submission, frozen=True, kw_only=True, tag="submit_path"):
    """A file on the daemon's machine, beneath `control.allow_paths`, absolute. Answer: Submitted.

    Error `not_allowed`: send the bytes instead.
    """

    path: Name


class SubmitUrl(_Submission, frozen=True, kw_only=True, tag="submit_url"):
    """A recording to be fetched. Answer: Submitted. Error `disabled` unless `url.enabled`."""

    url: Name


class Workers(Asked, frozen=True, kw_only=True, tag="workers"):
    """The workers there are. Answer: Workers."""


class Lives(Asked, frozen=True, kw_only=True, tag="lives"):
    """How workers' lives ended, the latest first. Answer: Lives."""

    worker: WorkerId | None = None
    limit: Limit = 50


class Why(Asked, frozen=True, kw_only=True, tag="why"):
    """What became of a worker or a job, and why. Answer: Explained."""

    about: JobId


class Memory(Asked, frozen=True, kw_only=True, tag="memory"):
    """The workers' memory; idle ones are asked what is in it. Answer: Memory.

    `deep`: they count their objects by type, too.
    """

    deep: bool = False


class MemoryHistory(Asked, frozen=True, kw_only=True, tag="memory_history"):
    """The workers' RSS over the last hours. Answer: Curves."""


class Config(Asked, frozen=True, kw_only=True, tag="config"):
    """The configuration in force. Answer: Config."""


class Recycle(Asked, frozen=True, kw_only=True, tag="recycle"):
    """Replace this worker, or with None each of them, after its job. Answer: Recycling."""

    worker: WorkerId | None = None


class Scale(Asked, frozen=True, kw_only=True, tag="scale"):
    """Have this many workers until the next start. Answer: Scaled."""

    workers: Annotated[int, Meta(ge=0, le=1024)]


class Reload(Asked, frozen=True, kw_only=True, tag="reload"):
    """Read the configuration again. Answer: Reloaded, or Error bad_config."""


class Events(Asked, frozen=True, kw_only=True, tag="events"):
    """What happened, oldest first: the last `limit` that fit. Answer: Events.

    `events` are names (`job.failed`) or families (`job`); empty: all. With `since`, the first
    `limit` from then on.
    """

    since: Instant | None = None
    events: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)] = ()
    job: JobId | None = None
    worker: WorkerId | None = None
    limit: Limit = 100


class Version(Asked, frozen=True, kw_only=True, tag="version"):
    """The daemon's version and its events endpoint. Answer: Version."""


Request = (
    Status
    | Drain
    | WaitDrained
    | Resume
    | SubmitOpen
    | SubmitChunk
    | SubmitCommit
    | SubmitAbort
    | SubmitPath
    | SubmitUrl
    | Jobs
    | Show
    | Wait
    | Segments
    | Cancel
    | Retry
    | Workers
    | Lives
    | Why
    | Memory
    | MemoryHistory
    | Config
    | Recycle
    | Scale
    | Reload
    | Events
    | Version
    | Fetch
)

Submission = SubmitOpen | SubmitPath | SubmitUrl
Held = Wait | WaitDrained | Segments  # answered when something has happened


class _Envelope(msgspec.Struct, frozen=True):
    """Just the version, whatever else there is."""

    v: int | None = None


VERBS: frozenset[str] = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Request))


@functools.cache
def _decoder() -> msgspec.json.Decoder[Request]:
    """Made when first needed: a client never needs it, and it takes a while."""
    return msgspec.json.Decoder(Request)


class RequestError(ValueError):
    """The bytes are no request; `reply` is what to answer."""

    def __init__(self, reply: Error) -> None:
        super().__init__(reply.message)
        self.reply = reply


def verb(request: Request) -> str:
    """The request's name on the wire."""
    tag = request.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def encode(request: Request) -> bytes:
    """The request's JSON frame, with its version."""
    body = msgspec.json.encode(request)
    return b'{"v":%d,' % PROTOCOL + body[1:]


def decode(body: bytes) -> Request:
    """The request in a JSON frame; raises RequestError with the reply that says what is wrong."""
    if len(body) > MAX_BODY:
        raise _bad(f"a request of {len(body)} bytes exceeds {MAX_BODY}")
    try:
        version = msgspec.json.decode(body, type=_Envelope).v
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(str(error)) from error
    if version is None:
        raise _bad("the request has no protocol version `v`")
    if version != PROTOCOL:
        raise RequestError(
            Error.of(
                Code.VERSION_MISMATCH,
                f"the client speaks protocol {version}, this daemon speaks {PROTOCOL}",
                "install the same version of sttd on both sides",
            )
        )
    try:
        return _decoder().decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(str(error)) from error


def _bad(message: str) -> RequestError:
    return RequestError(Error.of(Code.BAD_REQUEST, message, "see docs/protocol.md"))
