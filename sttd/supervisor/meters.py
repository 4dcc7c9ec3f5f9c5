"""What has happened since the daemon started, as counters and histograms for Prometheus.

Listens to the events and to the workers' obituaries, and asks nobody. Its memory is flat: labels
come from closed lists, never from jobs or names, and what is remembered of a run goes with it.
Imported only where `[metrics] listen` is set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from sttd.core.commands import Bury
from sttd.events import EVENTS
from sttd.wire.codes import Code

CODES = frozenset(Code)
OTHER = "other"  # the label of an error code that is not ours
KINDS = ("inbox", "control", "url")
OUTCOMES = {
    "job.succeeded": "succeeded",
    "job.failed": "failed",
    "job.cancelled": "cancelled",
}
AGAIN = frozenset({"job.requeued", "job.deferred"})
MOST_GOING = 4096  # runs remembered: far more than there can be workers

# Upper bounds. A kill takes about a millisecond, a graceful end up to recycle.grace (10 s), a
# recording runs for seconds to hours, and engines are 50 times faster than speech or as slow.
QUICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_S = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000)
FACTORS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


class _Going:
    """A run as far as its events tell. `begun_s` is None until a resumed one says where it is."""

    __slots__ = ("begun_s", "position_s", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.begun_s: float | None = 0.0
        self.position_s = 0.0


class Meters:
    """`heard` is a listener of the log, `buried` gets every worker's life when it is over."""

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._going: dict[object, _Going] = {}  # by job: its worker may have the next one already
        self._told: dict[object, float] = {}  # workers told to leave, and when
        self._killed: dict[object, float] = {}
        self._count(registry)
        self._measure(registry)

    def _count(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, label: str = "", known: Iterable[str] = ()) -> Counter:
            made = Counter(name, text, (label,) if label else (), registry=registry)
            for value in known:  # from 0 on, so that the first increase is one
                made.labels(value)
            return made

        self._events = counter("sttd_events", "Events by name, see events.md.", "event", EVENTS)
        self._accepted = counter("sttd_jobs_accepted", "Recordings accepted.", "kind", KINDS)
        self._bytes = counter("sttd_accepted_bytes", "Bytes of the recordings accepted.")
        outcomes = OUTCOMES.values()
        self._finished = counter("sttd_jobs_finished", "Jobs at their end.", "state", outcomes)
        self._failed = counter("sttd_jobs_failed", "Jobs given up, by error code.", "code")
        self._started = counter("sttd_attempts_started", "Attempts given to a worker.")
        self._again = counter(
            "sttd_attempts_repeated", "Attempts without a transcript, to be repeated.", "code"
        )
        self._audio = counter(
            "sttd_audio_processed_seconds",
            "Audio handed to the engine, repeated attempts included.",
        )
        self._transcribed = counter(
            "sttd_audio_transcribed_seconds", "Audio whose transcript was published."
        )

    def _measure(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, bounds: tuple[float, ...] = QUICK_S) -> Histogram:
            return Histogram(name, text, buckets=bounds, registry=registry)

        self._run = histogram(
            "sttd_job_run_seconds", "From a job's last start until it was published.", LONG_S
        )
        self._factor = histogram(
            "sttd_job_realtime_factor", "Seconds of work for each second of audio.", FACTORS
        )
        self._ready = histogram(
            "sttd_worker_ready_seconds", "From the decision to fork to the worker's first word."
        )
        self._leave = histogram(
            "sttd_worker_leave_seconds", "From being told to leave until the worker was gone."
        )
        self._kill = histogram(
            "sttd_worker_kill_latency_seconds", "From the order to kill until the worker was gone."
        )
        self._replace = histogram(
            "sttd_worker_replacement_latency_seconds",
            "From losing a worker until another could take jobs in its place.",
        )

    # -- listening -----------------------------------------------------------------------------
    def heard(self, name: str, record: Mapping[str, object]) -> None:
        """An event was told."""
        if name in EVENTS:
            self._events.labels(name).inc()
        if name.startswith("job."):
            self._job(name, record)
        elif name.startswith("worker."):
            self._worker(name, record)

    def buried(self, life: Bury) -> None:
        """A worker's life is over, and its record complete."""
        if life.replacement_latency_s is not None:
            self._replace.observe(life.replacement_latency_s)

    def _job(self, name: str, record: Mapping[str, object]) -> None:
        if name == "job.accepted":
            self._accepted.labels(_one_of(KINDS, record.get("kind"))).inc()
            self._bytes.inc(_number(record.get("bytes")))
        elif name == "job.started":
            self._begun(record)
        elif name == "job.resumed" and (going := self._going.get(record["job"])):
            going.begun_s = None
        elif name == "job.progress":
            self._progressed(record)
        elif name == "job.succeeded":
            self._succeeded(record)
        elif name in AGAIN:
            self._again.labels(_code(record)).inc()
        elif name == "job.failed":
            self._failed.labels(_code(record)).inc()
        if name in OUTCOMES:
            self._finished.labels(OUTCOMES[name]).inc()
        if name in OUTCOMES or name in AGAIN:
            self._going.pop(record["job"], None)

    def _begun(self, record: Mapping[str, object]) -> None:
        self._started.inc()
        self._going[record["job"]] = _Going(self._clock())
        if len(self._going) > MOST_GOING:
            del self._going[next(iter(self._going))]

    def _progressed(self, record: Mapping[str, object]) -> None:
        going = self._going.get(record["job"])
        if going is None:
            return
        position = _number(record.get("position_s"))
        if going.begun_s is None:
            going.begun_s = going.position_s = position
        if position > going.position_s:
            self._audio.inc(position - going.position_s)
            going.position_s = position

    def _succeeded(self, record: Mapping[str, object]) -> None:
        duration = _number(record.get("duration_s"))
        self._transcribed.inc(duration)
        going = self._going.get(record["job"])
        if going is None:
            return
        took = self._clock() - going.since
        self._run.observe(took)
        if going.begun_s is None:  # resumed, and over before it told where it began
            return
        self._audio.inc(max(0.0, duration - going.position_s))
        if duration > going.begun_s:
            self._factor.observe(took / (duration - going.begun_s))

    def _worker(self, name: str, record: Mapping[str, object]) -> None:
        worker = record.get("worker")
        if name == "worker.ready":
            self._ready.observe(_number(record.get("ready_s")))
        elif name == "worker.retiring":
            self._told[worker] = self._clock()
        elif name == "worker.killed":
            self._killed[worker] = self._clock()
        elif name == "worker.exited":
            told, killed = self._told.pop(worker, None), self._killed.pop(worker, None)
            if killed is not None:
                self._kill.observe(self._clock() - killed)
            elif told is not None:
                self._leave.observe(self._clock() - told)


def _one_of(known: tuple[str, ...], value: object) -> str:
    return value if isinstance(value, str) and value in known else OTHER


def _code(record: Mapping[str, object]) -> str:
    code = str(record.get("code"))
    return code if code in CODES else OTHER


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0.0
