"""What the core wants done: one closed union, carried out by the shell. Values only."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sttd.core.jobs import Job


class StartTemplate(msgspec.Struct, frozen=True):
    """Start the templates that are missing; `renew`: the engine's anew, the old serving on."""

    epoch: int
    renew: bool


class Fork(msgspec.Struct, frozen=True):
    """Bring worker `worker` into being."""

    worker: str
    generation: int


class Leave(msgspec.Struct, frozen=True):
    """Ask the worker to go (SIGTERM); the core sends Kill when its grace is over."""

    worker: str
    reason: str


class Kill(msgspec.Struct, frozen=True):
    """End the worker now (SIGKILL)."""

    worker: str
    reason: str


class Examine(msgspec.Struct, frozen=True):
    """Look at a worker that hangs (stacks, threads), then end it as Kill does."""

    worker: str
    reason: str


class Bury(msgspec.Struct, frozen=True, kw_only=True):
    """Record a worker's life; seconds and bytes."""

    worker: str
    pid: int
    cause: str  # a key of `recycles`
    decider: str  # policy, operator, kernel, itself
    rss_bytes: int
    peak_rss_bytes: int
    jobs: int
    leak_per_job: float | None
    age_s: float
    kill_latency_s: float | None  # from the decision to the exit
    replacement_latency_s: float | None  # from the decision until another took its place


class Claim(msgspec.Struct, frozen=True):
    """Take up to `limit` queued jobs; answered by Claimed or ClaimFailed.

    `probe`: to see whether the engine's service is back; the least tried will do best.
    """

    limit: int
    probe: bool = False


class Assign(msgspec.Struct, frozen=True):
    """Hand the job to the worker."""

    worker: str
    job: Job


class Publish(msgspec.Struct, frozen=True):
    """Make the job's outputs visible; answered by Published or PublishFailed."""

    job: Job
    worker: str


class Requeue(msgspec.Struct, frozen=True, kw_only=True):
    """Back into the queue, now (delay 0) or later, with these counters."""

    job: Job
    worker: str | None
    delay_s: float
    failures: int
    crashes: int
    segments: int
    interrupted: bool
    code: str
    message: str


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """The job has failed for good."""

    job: Job
    worker: str | None
    code: str
    message: str
    attempt_code: str
    segments: int


class Cancelled(msgspec.Struct, frozen=True):
    """The job was cancelled while it ran."""

    job: Job


class Announce(msgspec.Struct, frozen=True):
    """Log and publish this event of the catalogue."""

    event: str
    fields: Mapping[str, object]


class Exit(msgspec.Struct, frozen=True):
    """Everything is settled: the daemon may leave."""


Command = (
    StartTemplate
    | Fork
    | Leave
    | Kill
    | Examine
    | Bury
    | Claim
    | Assign
    | Publish
    | Requeue
    | GiveUp
    | Cancelled
    | Announce
    | Exit
)
