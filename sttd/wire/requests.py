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

from sttd.wire.codes import Code
from sttd.wire.replies import Error
from sttd.wire.views import JobStateName

PROTOCOL = 1  # the `v` of every request
MAX_BODY = 256 * 1024  # bytes of JSON in one request
CHUNK = 256 * 1024  # bytes of a recording or an output in one binary frame
MAX_CORRELATION = 32  # bytes
MAX_WAIT_S = 60.0  # one Wait is held no longer; the client asks again
MAX_LISTED = 1000  # jobs or events in one reply; ask again with `before` or `since`

JobId = Annotated[str, Meta(min_length=1, max_length=64)]
WorkerId = Annotated[str, Meta(min_length=1, max_length=32)]
UploadId = Annotated[str, Meta(min_length=1, max_length=64)]
# Printable, one line; a key of the client's own choice.
Key = Annotated[str, Meta(min_length=1, max_length=200)]
# A name or path beneath something; the kernel's PATH_MAX.
Name = Annotated[str, Meta(min_length=1, max_length=4096)]
Priority = Annotated[int, Meta(ge=-1000, le=1000)]
Offset = Annotated[int, Meta(ge=0, lt=1 << 53)]
WaitS = Annotated[float, Meta(ge=0, le=MAX_WAIT_S)]
Limit = Annotated[int, Meta(ge=1, le=MAX_LISTED)]
# UTC, 2026-01-31T12:00:00.000Z
Instant = Annotated[str, Meta(min_length=20, max_length=30)]


class _Request(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="verb",
):
    """What every request has; `v` is put in front by `encode` and taken off by `decode`."""

    v: int = PROTOCOL


class Status(_Request, frozen=True, kw_only=True, tag="status"):
    """The whole picture. Answer: Status."""


class Drain(_Request, frozen=True, kw_only=True, tag="drain"):
    """Start no more jobs. Answered at once: Drained."""


class WaitDrained(_Request, frozen=True, kw_only=True, tag="wait_drained"):
    """Answered when nothing runs, draining was undone, or the time is over: Drained."""

    timeout_s: WaitS = 1.0


class Resume(_Request, frozen=True, kw_only=True, tag="resume"):
    """Undo a drain; probe an engine that is not ok. Answer: Drained."""


class _Submission(_Request, frozen=True, kw_only=True):
    """What the three ways of submitting share.

    `options` are the sidecar's, as in docs/protocol.md; what they say of priority yields to
    `priority` unless that is None. `key` makes it idempotent: known already, the answer is
    Submitted(duplicate=true) and nothing else happens.
    """

    options: dict[str, object] = {}
    priority: Priority | None = None
    key: Key | None = None


class SubmitOpen(_Submission, frozen=True, kw_only=True, tag="submit_open"):
    """A recording of `bytes` bytes is about to be sent. Answer: Opened, or Submitted(duplicate).

    `name` is the file's name for people and for its outputs; folders in it are dropped.
    """

    name: Name
    bytes: Offset


class SubmitChunk(_Request, frozen=True, kw_only=True, tag="submit_chunk"):
    """The bytes from `offset` on, 1 to CHUNK of them, in the third frame. Answer: Received.

    Send the next one after the answer: that is the backpressure. A chunk sent twice is fine.
    """

    upload: UploadId
    offset: Offset


class SubmitCommit(_Request, frozen=True, kw_only=True, tag="submit_commit"):
    """All bytes were sent. Answered after the durable commit: Submitted. May be repeated."""

    upload: UploadId


class SubmitAbort(_Request, frozen=True, kw_only=True, tag="submit_abort"):
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


class Jobs(_Request, frozen=True, kw_only=True, tag="jobs"):
    """The newest jobs first, those in `state`, created before the job `before`. Answer: Jobs."""

    state: JobStateName | None = None
    limit: Limit = 50
    before: JobId | None = None


class Show(_Request, frozen=True, kw_only=True, tag="show"):
    """One job with its timeline. Answer: Detail."""

    job: JobId


class Wait(_Request, frozen=True, kw_only=True, tag="wait"):
    """Answered when all of these are final, or the time is over: Jobs, in the order given."""

    jobs: Annotated[tuple[JobId, ...], Meta(min_length=1, max_length=MAX_LISTED)]
    timeout_s: WaitS = 1.0


class Cancel(_Request, frozen=True, kw_only=True, tag="cancel"):
    """Cancel a queued, deferred or running job. Answer: OneJob."""

    job: JobId


class Retry(_Request, frozen=True, kw_only=True, tag="retry"):
    """Put a failed or cancelled job back (OneJob), or with `job` None every failed (Retried)."""

    job: JobId | None = None


class Workers(_Request, frozen=True, kw_only=True, tag="workers"):
    """The workers there are. Answer: Workers."""


class Lives(_Request, frozen=True, kw_only=True, tag="lives"):
    """How workers' lives ended, the latest first. Answer: Lives."""

    worker: WorkerId | None = None
    limit: Limit = 50


class Why(_Request, frozen=True, kw_only=True, tag="why"):
    """What became of a worker or a job, and why. Answer: Explained."""

    about: JobId


class Memory(_Request, frozen=True, kw_only=True, tag="memory"):
    """The workers' memory; idle ones are asked what is in it. Answer: Memory.

    `deep`: they count their objects by type, too.
    """

    deep: bool = False


class MemoryHistory(_Request, frozen=True, kw_only=True, tag="memory_history"):
    """The workers' RSS over the last hours. Answer: Curves."""


class Config(_Request, frozen=True, kw_only=True, tag="config"):
    """The configuration in force. Answer: Config."""


class Recycle(_Request, frozen=True, kw_only=True, tag="recycle"):
    """Replace this worker, or with None each of them, after its job. Answer: Recycling."""

    worker: WorkerId | None = None


class Scale(_Request, frozen=True, kw_only=True, tag="scale"):
    """Have this many workers until the next start. Answer: Scaled."""

    workers: Annotated[int, Meta(ge=0, le=1024)]


class Reload(_Request, frozen=True, kw_only=True, tag="reload"):
    """Read the configuration again. Answer: Reloaded, or Error bad_config."""


class Events(_Request, frozen=True, kw_only=True, tag="events"):
    """What happened, oldest first: the last `limit` that fit. Answer: Events.

    `events` are names (`job.failed`) or families (`job`); empty: all. With `since`, the first
    `limit` from then on.
    """

    since: Instant | None = None
    events: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)] = ()
    job: JobId | None = None
    worker: WorkerId | None = None
    limit: Limit = 100


class Version(_Request, frozen=True, kw_only=True, tag="version"):
    """The daemon's version and its events endpoint. Answer: Version."""


class Fetch(_Request, frozen=True, kw_only=True, tag="fetch"):
    """A piece of a finished job's output, at most CHUNK bytes from `offset`.

    `output` is one of the job's `outputs`, to the letter. Answer: Fetched and a binary frame.
    """

    job: JobId
    output: Name
    offset: Offset = 0


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
