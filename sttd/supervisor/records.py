"""The rows that the daemon's parts hand to one another: values only, no I/O, no policy.

File names are `str` decoded with surrogateescape (`os.fsdecode`) everywhere inside; the ledger
stores them as bytes, and whatever is shown to people or put into JSON goes through `printable`.
Times on the wall are integer nanoseconds since 1970 (UTC) and are for show; nothing is scheduled
by them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sttd.core.jobs import JobState


def printable(name: str) -> str:
    r"""A file name fit for JSON and terminals: bytes that are no UTF-8 show as `\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Signature(msgspec.Struct, frozen=True):
    """What tells that a file has not changed; ctime because an uploader cannot set it."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A recording about to become ours. `id` is a UUIDv7; its spool folder is derived from it."""

    id: str
    kind: Literal["inbox", "control", "url"]
    name: str  # inbox: path beneath the inbox; control: the file's name
    signature: Signature
    stem: str  # wished for beneath outbox/, e.g. "a/meeting"; the ledger adds -2, -3
    sidecar: Signature | None = None  # of <name>.json, where one lay beside it
    options: str = "{}"
    priority: int = 0
    key: str | None = None  # the client's idempotency key
    uid: int | None = None  # who submitted


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the ledger knows it."""

    id: str
    kind: Literal["inbox", "control", "url"]
    name: str
    signature: Signature
    sidecar: Signature | None
    out_name: str  # reserved stem beneath outbox/
    options: str
    priority: int
    key: str | None
    uid: int | None
    state: JobState
    attempt: int  # starts so far
    failures: int  # counted attempts since the last committed segment
    crashes: int  # workers killed since the last committed segment
    interrupted: int  # starts cut short by the daemon's own end
    segments: int  # committed segments so far
    token: str | None
    worker: str | None
    size: int
    sha256: str | None
    duration_s: float | None
    progress_s: float
    outputs: tuple[str, ...]  # paths beneath outbox/, the manifest last
    original: str | None  # where it was put: "done/a.wav", "failed/a.wav"; None: still in spool
    disposed: bool
    error_code: str | None
    error_message: str | None
    created_ns: int
    started_ns: int | None
    finished_ns: int | None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs a listing wants, and from where it goes on. None: whatever it is.

    Newest first and from `before` backwards, or `oldest` first and from `after` on; both are ids.
    """

    limit: int
    state: JobState | None = None
    before: str | None = None
    after: str | None = None
    oldest: bool = False
    strangers: bool = False  # what was never accepted, too
    since_ns: int | None = None  # created then or later
    until_ns: int | None = None  # created before
    name: str | None = None  # a part of it
    kind: Literal["inbox", "control", "url"] | None = None
    key: str | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt ended; kept with the job and shown in *.error.json."""

    attempt: int
    worker: str
    code: str  # an error code of docs/protocol.md
    message: str
    at_ns: int
    segments: int = 0
    duration_s: float | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The `queue` object of `sttctl status --json`."""

    queued: int = 0
    deferred: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    oldest_queued_s: float = 0.0


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """An announced event, kept for `sttctl events --since` and for a job's timeline."""

    at_ns: int
    name: str  # of the catalogue: "job.started"
    job: str | None = None
    worker: str | None = None
    fields_json: str = "{}"  # the other fields, one JSON object


class WorkerLife(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker's life ended; kept for `sttctl workers --history` and `sttctl why`."""

    worker: str
    pid: int
    cause: str  # a key of `recycles`
    decider: str  # who wanted it: "policy", "operator", "kernel", "itself"
    rss_bytes: int | None  # at the end
    peak_rss_bytes: int | None
    jobs: int  # finished by it
    leak_per_job: float | None  # bytes
    age_s: float
    kill_latency_s: float | None  # from the decision to the exit
    replacement_latency_s: float | None  # from the exit to the next worker being ready
    started_ns: int
    ended_ns: int
    detail: str = "{}"  # anything else, one JSON object
