r"""The JSON that `sttctl ... --json` prints, one struct per shape; docs/protocol.md shows them.

Values only. Sizes are bytes, `_s` is seconds, times are UTC as 2026-01-31T12:00:00.000Z. Keys are
added to, never renamed or removed. Names are printable: bytes that are no UTF-8 show as `\xNN`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sttd.transcripts import Segment

DaemonState = Literal["running", "draining", "drained", "degraded"]
WorkerState = Literal["starting", "standby", "idle", "busy", "retiring"]
JobStateName = Literal["queued", "running", "deferred", "succeeded", "failed", "cancelled"]
EngineState = Literal["ok", "throttled", "unavailable", "unauthorized"]
SourceKind = Literal["inbox", "control", "url"]

FINAL_STATES: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

# An event as it stands in the log: timestamp, level, event, and the event's own fields.
EventView = dict[str, object]


class DaemonView(msgspec.Struct, frozen=True, kw_only=True):
    """`daemon` of `status`."""

    pid: int
    version: str
    state: DaemonState
    uptime_s: float
    rss_bytes: int
    reasons: tuple[str, ...] = ()  # why degraded, one line each


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker; `pss_bytes` and its like are 0 until first sampled."""

    id: str
    pid: int
    state: WorkerState
    requests: int
    rss_bytes: int
    peak_rss_bytes: int
    pss_bytes: int
    threads: int
    fds: int
    age_s: float
    job: str | None = None


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """`pool` of `status`; `configured` counts workers without standbys.

    `memory_control`: whether every worker has a control group of its own; if not,
    `memory_control_detail` says why, else where they are.
    """

    configured: int
    memory_control: Literal["cgroup", "polling"] = "polling"
    memory_control_detail: str = ""
    workers: tuple[WorkerView, ...] = ()


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """`queue` of `status`: rows of the ledger."""

    queued: int = 0
    deferred: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    oldest_queued_s: float = 0.0


class RecyclesView(msgspec.Struct, frozen=True, kw_only=True):
    """`recycles` of `status`: worker lives ended since the daemon started, by reason."""

    max_requests: int = 0
    rss_soft: int = 0
    rss_ceiling: int = 0
    predicted: int = 0
    max_age: int = 0
    stalled: int = 0
    job_timeout: int = 0
    crashed: int = 0
    threads: int = 0
    fds: int = 0
    requested: int = 0
    cancelled: int = 0
    reloaded: int = 0
    scaled: int = 0
    shutdown: int = 0


class EngineView(msgspec.Struct, frozen=True, kw_only=True):
    """`engine` of `status`; `detail` is one line for the operator, empty while all is well.

    `max_sessions` is how many jobs may use the service at once now: as configured, fewer after it
    asked for less; 0 for an engine without such a limit.
    """

    name: str
    state: EngineState
    detail: str = ""
    sessions: int = 0
    max_sessions: int = 0


class SandboxView(msgspec.Struct, frozen=True, kw_only=True):
    """`sandbox` of `status`: what stands around decoders here, as tried when they were loaded.

    `landlock` is the version of the kernel's ABI, 0 for none. `files` and `network` say whether a
    decoder could still open or reach one.
    """

    landlock: int = 0
    seccomp: bool = False
    files: Literal["closed", "open", "unknown"] = "unknown"
    network: Literal["closed", "open", "unknown"] = "unknown"


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """`sttctl status --json`."""

    daemon: DaemonView
    pool: PoolView
    queue: QueueView
    recycles: RecyclesView
    engine: EngineView
    sandbox: SandboxView = SandboxView()


class JobSource(msgspec.Struct, frozen=True, kw_only=True):
    """How a job came in and under which name."""

    kind: SourceKind
    name: str


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed, or what its last attempt met while it waits for the next."""

    code: str
    message: str


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job. `duration_s` is None until the recording was opened; outputs lie beneath outbox/."""

    job: str
    source: JobSource
    state: JobStateName
    priority: int
    attempts: int
    created: str
    started: str | None = None
    finished: str | None = None
    duration_s: float | None = None
    progress_s: float = 0.0
    worker: str | None = None
    outputs: tuple[str, ...] = ()
    error: JobError | None = None


class SubmittedView(JobView, frozen=True, kw_only=True):
    """`submit --json`; `duplicate`: the key was seen before and this is that job."""

    duplicate: bool = False


class JobDetailView(JobView, frozen=True, kw_only=True):
    """`show --json`; the job's events, oldest first, and its pace while it runs.

    `original` is where the recording is put once the job is over: beneath the state directory.
    """

    timeline: tuple[EventView, ...] = ()
    original: str | None = None
    speed: float | None = None  # seconds of audio done in a second, while it runs
    left_s: float | None = None  # until it is done, at that speed


class JobsView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`jobs --json` (newest first) and `wait --json` (in the order asked for).

    `next`: the job behind which the listing goes on; left out at its end.
    """

    jobs: tuple[JobView, ...]
    next: str | None = None


class SegmentsView(msgspec.Struct, frozen=True, kw_only=True):
    """What a job has said since a cursor, and how it stands.

    `cursor` is what to ask with next. `restarted`: these are the first, what was given before is
    void. Of a job that has succeeded the rest is in its manifest, the last of its outputs.
    """

    job: JobView
    segments: tuple[Segment, ...] = ()
    cursor: str = ""
    restarted: bool = False


class WorkersView(msgspec.Struct, frozen=True, kw_only=True):
    """`workers --json`."""

    workers: tuple[WorkerView, ...] = ()


class EventsView(msgspec.Struct, frozen=True, kw_only=True):
    """Events, oldest first; `sttctl events --json` prints one of them a line."""

    events: tuple[EventView, ...] = ()


class DrainView(msgspec.Struct, frozen=True, kw_only=True):
    """`drain --json` and `resume --json`: the daemon's state now and how many jobs still run."""

    state: DaemonState
    running: int


class RetriedView(msgspec.Struct, frozen=True, kw_only=True):
    """`retry --all-failed --json`: how many jobs were put back into the queue."""

    retried: int


class RecycleView(msgspec.Struct, frozen=True, kw_only=True):
    """`recycle --json`: the workers told to leave, each after its job."""

    workers: tuple[str, ...]


class ScaleView(msgspec.Struct, frozen=True, kw_only=True):
    """`scale --json`: the number of workers now wished for, and before."""

    configured: int
    previous: int


class ReloadView(msgspec.Struct, frozen=True, kw_only=True):
    """`reload --json`: keys as `section.key`, in force now or only after a restart."""

    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's half of `version --json`."""

    version: str
    protocol: int
    events_endpoint: str  # where the PUB socket listens
