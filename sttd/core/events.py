"""What can happen, as seen by the core: one closed union. Values only."""

from __future__ import annotations

import msgspec

from sttd.core.health import UNLIMITED
from sttd.core.jobs import Job
from sttd.core.recycling import RecyclePolicy, Vitals
from sttd.core.retry import FailureKind, RetryPolicy


class Tick(msgspec.Struct, frozen=True):
    """Time has passed; deadlines are looked at."""


# -- the template ------------------------------------------------------------------------------
class TemplateReady(msgspec.Struct, frozen=True):
    """Template `epoch` can fork."""

    epoch: int


class TemplateExited(msgspec.Struct, frozen=True):
    """Template `epoch` is gone, or said that it cannot load the engine.

    `usable`: an older one still forks (the new one was to replace it).
    """

    epoch: int
    message: str
    usable: bool = False


# -- workers -----------------------------------------------------------------------------------
class WorkerForked(msgspec.Struct, frozen=True):
    """The process exists."""

    worker: str
    pid: int


class WorkerReady(msgspec.Struct, frozen=True):
    """The worker said its first word."""

    worker: str


class WorkerExited(msgspec.Struct, frozen=True):
    """The process is gone and reaped.

    Exactly one of exit_code and signal is set, or neither when it never came to be.
    """

    worker: str
    exit_code: int | None
    signal: int | None
    message: str = ""


class Starved(msgspec.Struct, frozen=True):
    """The kernel killed the worker at its control group's limit; WorkerExited follows."""

    worker: str


class Sampled(msgspec.Struct, frozen=True):
    """A worker's vital signs."""

    worker: str
    vitals: Vitals


class Progressed(msgspec.Struct, frozen=True, kw_only=True):
    """A worker advanced in its recording."""

    worker: str
    job: str
    attempt: int
    token: str
    position_s: float
    segments: int
    duration_s: float | None
    start_s: float = 0.0  # where this attempt began
    writing: bool = False  # the engine is done; what is left is to write the outputs


class JobDone(msgspec.Struct, frozen=True, kw_only=True):
    """A worker has written every output of its job."""

    worker: str
    job: str
    attempt: int
    token: str
    duration_s: float
    segments: int
    rss_before: int
    rss_after: int


class JobFailed(msgspec.Struct, frozen=True, kw_only=True):
    """A worker ended its job without a transcript, and lives."""

    worker: str
    job: str
    attempt: int
    token: str
    kind: FailureKind
    code: str
    message: str
    retry_after_s: float | None
    segments: int
    duration_s: float | None
    rss_before: int
    rss_after: int
    leaving: bool = False  # the worker ends itself now


class EngineReported(msgspec.Struct, frozen=True):
    """A worker tells of the service's state ahead of its attempt's end."""

    worker: str
    kind: FailureKind
    message: str


# -- the ledger and the outbox -----------------------------------------------------------------
class JobsWaiting(msgspec.Struct, frozen=True):
    """Something in the ledger may be claimable."""


class Claimed(msgspec.Struct, frozen=True):
    """The answer to a Claim; fewer than asked for means that no more are waiting."""

    jobs: tuple[Job, ...]


class ClaimFailed(msgspec.Struct, frozen=True):
    """The ledger could not answer a Claim."""

    message: str


class Published(msgspec.Struct, frozen=True):
    """The outputs are visible and the ledger says succeeded."""

    job: str


class PublishFailed(msgspec.Struct, frozen=True):
    """The outputs could not be made visible; the attempt counts for nothing."""

    job: str
    message: str


# -- the machine -------------------------------------------------------------------------------
class RoomSampled(msgspec.Struct, frozen=True):
    """Memory of the machine (or the cgroup), bytes; the budget for all workers; pressure in %."""

    available: int
    budget: int
    pressure: float = 0.0


class TroubleChanged(msgspec.Struct, frozen=True):
    """A part of the shell has a standing trouble (None: it is over). `source` names the part."""

    source: str
    reason: str | None


# -- the operator ------------------------------------------------------------------------------
class DrainRequested(msgspec.Struct, frozen=True):
    """Start no more jobs."""


class ResumeRequested(msgspec.Struct, frozen=True):
    """Start jobs again; probe an engine that was away."""


class StopRequested(msgspec.Struct, frozen=True):
    """Leave: after the running jobs (at most `drain_timeout`), or now."""

    now: bool


class RecycleRequested(msgspec.Struct, frozen=True):
    """Replace one worker, or all when None, each after its job."""

    worker: str | None


class ScaleRequested(msgspec.Struct, frozen=True):
    """From now on `workers` workers."""

    workers: int


class CancelRequested(msgspec.Struct, frozen=True):
    """End this running job."""

    job: str


class Reconfigured(msgspec.Struct, frozen=True, kw_only=True):
    """New policies are in force; `engine_changed`: the workers must be replaced.

    `workers` None: as many as now (an operator may have scaled).
    """

    recycle: RecyclePolicy
    retry: RetryPolicy
    workers: int | None
    standby: int
    engine_changed: bool
    resumes: bool = True
    max_sessions: int = UNLIMITED


Event = (
    Tick
    | TemplateReady
    | TemplateExited
    | WorkerForked
    | WorkerReady
    | WorkerExited
    | Starved
    | Sampled
    | Progressed
    | JobDone
    | JobFailed
    | EngineReported
    | JobsWaiting
    | Claimed
    | ClaimFailed
    | Published
    | PublishFailed
    | RoomSampled
    | TroubleChanged
    | DrainRequested
    | ResumeRequested
    | StopRequested
    | RecycleRequested
    | ScaleRequested
    | CancelRequested
    | Reconfigured
)
