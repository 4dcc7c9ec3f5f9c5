"""A job's states and the moves between them; the one table that the ledger and the core obey.

Does not store jobs (the ledger does) and does not decide retries (`retry` does).
"""

from __future__ import annotations

import enum

import msgspec


class JobState(enum.StrEnum):
    """Where a job is. `claiming` is not yet accepted; the last four are final."""

    CLAIMING = "claiming"
    QUEUED = "queued"
    RUNNING = "running"
    DEFERRED = "deferred"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.WITHDRAWN})
# over without a transcript: the original is put aside in failed/, from where it may be retried
PUT_ASIDE = frozenset({JobState.FAILED, JobState.CANCELLED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # the file vanished before it was ours: withdrawn
    JobState.CLAIMING: frozenset({JobState.QUEUED, JobState.WITHDRAWN}),
    # failed straight from the queue: too large, a bad sidecar
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        {
            JobState.QUEUED,
            JobState.DEFERRED,
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELLED,
        }
    ),
    JobState.DEFERRED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    # an operator's retry
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
    JobState.WITHDRAWN: frozenset(),
}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was claimed for running; what the core and a worker must know of it."""

    id: str  # UUIDv7
    name: str  # the source's name, printable (surrogates escaped)
    out_name: str  # reserved stem beneath outbox/, surrogateescape-decoded
    token: str  # fences this attempt: what comes with another token is late
    attempt: int  # all starts so far, this one included
    failures: int = 0  # counted attempts since the last committed segment
    crashes: int = 0  # workers killed since the last committed segment
    segments: int = 0  # committed segments of earlier attempts
    size: int = 0  # bytes
    duration_s: float | None = None
    priority: int = 0
    options: str = "{}"  # the sidecar as JSON
    file_name: str = ""  # the source's name as it is on disk, by surrogateescape; "": as `name`
