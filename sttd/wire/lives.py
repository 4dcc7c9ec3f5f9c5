"""The shapes that say why: how workers' lives ended, how a job's attempts did, what is configured.

Values only, as in `views`.
"""

from __future__ import annotations

import msgspec

from sttd.wire.views import EventView, JobView, WorkerView


class LifeView(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker's life ended. Latencies are None where nothing was waited for."""

    worker: str
    pid: int
    cause: str  # a key of `recycles`
    decider: str  # policy, operator, kernel (a signal), itself
    rss_bytes: int | None
    peak_rss_bytes: int | None
    jobs: int
    leak_per_job_bytes: float | None
    age_s: float
    kill_latency_s: float | None  # from the decision to the exit
    replacement_latency_s: float | None  # from the decision until another took its place
    started: str
    ended: str


class LivesView(msgspec.Struct, frozen=True, kw_only=True):
    """`workers --history --json`, the latest first."""

    lives: tuple[LifeView, ...] = ()


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt of a job ended. `life`: how its worker's did, when that is over."""

    attempt: int
    worker: str
    code: str
    message: str
    at: str
    segments: int
    life: LifeView | None = None


class WhyView(msgspec.Struct, frozen=True, kw_only=True):
    """`why --json`: `worker` or `job` is what it is about; the other keys follow from it."""

    about: str
    kind: str  # "worker" or "job"
    worker: WorkerView | None = None  # while it lives
    life: LifeView | None = None  # once it is over
    job: JobView | None = None
    attempts: tuple[AttemptView, ...] = ()
    evidence: tuple[dict[str, object], ...] = ()  # as in *.error.json
    events: tuple[EventView, ...] = ()


class SettingView(msgspec.Struct, frozen=True, kw_only=True):
    """A key's effective value, as the file would have it, and where it comes from."""

    key: str
    value: object
    origin: str  # "default", a file and line, or an environment variable


class ConfigView(msgspec.Struct, frozen=True, kw_only=True):
    """`config show --json`."""

    settings: tuple[SettingView, ...] = ()
