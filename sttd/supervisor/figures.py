"""What is so at this moment, for Prometheus: copied on the event loop, shaped in a thread.

`look` copies plain values out of the daemon's mind in microseconds; `look_at_disks` and `families`
are for another thread. Labels come from closed lists: states, reasons, slots, folders. Imported
only where `[metrics] listen` is set.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from sttd import __version__
from sttd.config import Settings
from sttd.core.staff import REASONS
from sttd.core.workers import Worker, WorkerState
from sttd.supervisor.loop import Loop
from sttd.supervisor.records import Counts
from sttd.wire import views

# What `daemon.reasons` may be about: the keys of Supervision.troubles.
TROUBLES = ("disk", "inbox", "ledger", "memory", "pool", "template")


class WorkerFigures(msgspec.Struct, frozen=True):
    """The worker in a slot; bytes, seconds, counts."""

    slot: str
    rss_bytes: int
    peak_rss_bytes: int
    threads: int
    fds: int
    age_s: float
    requests: int


BY_SLOT: tuple[tuple[str, str, Callable[[WorkerFigures], float]], ...] = (
    ("rss_bytes", "Resident memory of the worker in the slot.", lambda w: w.rss_bytes),
    ("peak_rss_bytes", "The most resident memory it had.", lambda w: w.peak_rss_bytes),
    ("threads", "Its threads.", lambda w: w.threads),
    ("open_fds", "Its descriptors.", lambda w: w.fds),
    ("age_seconds", "Seconds since it was forked.", lambda w: w.age_s),
    ("requests", "Jobs it has finished.", lambda w: w.requests),
)


class Disk(msgspec.Struct, frozen=True):
    """The disk that a folder lies on, in bytes."""

    folder: str
    free: int
    size: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one scrape but what `meters` counts. None: not known in time."""

    settings: Settings
    engine: tuple[str, str]  # name and version
    state: str
    troubles: frozenset[str]
    configured: int
    admitted: int
    workers: tuple[WorkerFigures, ...]
    states: Mapping[str, int]  # workers by state
    recycles: Mapping[str, int]
    available: int | None  # memory, bytes
    budget: int | None
    pressure: float | None  # percent
    engine_state: str
    sessions: int
    max_sessions: int
    log_lost: int
    dropped: int  # notifications
    counts: Counts | None = None
    answer_s: float | None = None  # the ledger's, to the question for these counts
    disks: tuple[Disk, ...] = ()
    files: Mapping[str, int] = {}  # the ledger's, in bytes


def look(loop: Loop, now: float, dropped: int) -> Figures:
    """Copy what the daemon knows; on the event loop."""
    core, room = loop.core, loop.core.room
    workers = list(core.staff.workers.values())
    return Figures(
        settings=loop.settings,
        engine=(loop.engine[0] or loop.settings.engine.name, loop.engine[1]),
        state=core.state,
        troubles=frozenset(core.troubles),
        configured=core.staff.target,
        admitted=core.admission.jobs,
        workers=tuple(_worker(worker, now) for worker in workers),
        states={s.value: sum(w.state is s for w in workers) for s in WorkerState},
        recycles={reason: core.staff.recycles[reason] for reason in REASONS},
        available=room.available if room else None,
        budget=room.budget if room else None,
        pressure=room.pressure if room else None,
        engine_state=core.health.state.value,
        sessions=core.staff.busy(),
        max_sessions=core.health.ceiling(),
        log_lost=loop.log.lost,
        dropped=dropped,
    )


def _worker(worker: Worker, now: float) -> WorkerFigures:
    vitals = worker.vitals
    return WorkerFigures(
        slot=str(worker.slot),
        rss_bytes=vitals.rss_bytes,
        peak_rss_bytes=vitals.peak_rss_bytes,
        threads=vitals.threads,
        fds=vitals.fds,
        age_s=now - worker.started,
        requests=worker.requests,
    )


def look_at_disks(figures: Figures) -> Figures:
    """Add what only the file system knows; in a thread, for a disk may take its time."""
    settings = figures.settings
    folders = {
        "state": settings.state_dir,
        "inbox": settings.inbox_dir,
        "outbox": settings.outbox_dir,
    }
    return msgspec.structs.replace(
        figures,
        disks=tuple(disk for name, path in folders.items() if (disk := _disk(name, path))),
        files={
            "database": _bytes(settings.ledger_path),
            "wal": _bytes(settings.ledger_path.with_name(f"{settings.ledger_path.name}-wal")),
        },
    )


def _disk(folder: str, path: Path) -> Disk | None:
    try:
        found = os.statvfs(path)
    except OSError:  # gone, or a mount that is away: no figure is better than a wrong one
        return None
    return Disk(folder, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


# -- shaping -----------------------------------------------------------------------------------
def families(figures: Figures) -> Iterator[Metric]:
    """The figures as Prometheus has them."""
    yield from _daemon(figures)
    yield from _jobs(figures)
    yield from _workers(figures)
    yield from _memory(figures)
    yield from _engine(figures)
    yield from _disks(figures)


def _gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield GaugeMetricFamily(name, text, value=value)


def _labelled(
    name: str, text: str, label: str, values: Iterable[tuple[str, float]]
) -> Iterator[Metric]:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    yield family


def _one_of(name: str, text: str, label: str, states: Iterable[str], now: str) -> Iterator[Metric]:
    yield from _labelled(name, text, label, ((state, float(state == now)) for state in states))


def _daemon(figures: Figures) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "sttd_build",
        "Versions of sttd and of Python.",
        value={"version": __version__, "python": platform.python_version()},
    )
    states = get_args(views.DaemonState)
    yield from _one_of("sttd_state", "1 for the daemon's state.", "state", states, figures.state)
    troubles = ((source, float(source in figures.troubles)) for source in TROUBLES)
    text = "1 while the daemon is degraded for this."
    yield from _labelled("sttd_trouble", text, "source", troubles)
    text = "Lines of the log that could not be written."
    yield CounterMetricFamily("sttd_log_lines_lost", text, value=figures.log_lost)
    text = "Notifications left out, because they came faster than they went."
    yield CounterMetricFamily("sttd_notifications_dropped", text, value=figures.dropped)


def _jobs(figures: Figures) -> Iterator[Metric]:
    counts = figures.counts
    yield from _gauge("sttd_ledger_up", "1 if the ledger answered in time.", counts is not None)
    text = "Seconds that the ledger took to answer this scrape."
    yield from _gauge("sttd_ledger_answer_seconds", text, figures.answer_s)
    if counts is not None:
        states = get_args(views.JobStateName)
        jobs = ((state, getattr(counts, state)) for state in states)
        yield from _labelled("sttd_jobs", "Jobs in the ledger.", "state", jobs)
        text = "Seconds since the longest waiting of the queued jobs was queued; 0 without any."
        yield from _gauge("sttd_queue_oldest_seconds", text, counts.oldest_queued_s)
    most = figures.settings.limits.max_queued
    yield from _gauge("sttd_queue_max_jobs", "limits.max_queued.", most)
    text = "Jobs that may run at once in the memory there is."
    yield from _gauge("sttd_jobs_admitted", text, figures.admitted)


def _workers(figures: Figures) -> Iterator[Metric]:
    text = "Workers that are wished for, standbys not counted."
    yield from _gauge("sttd_workers_configured", text, figures.configured)
    yield from _labelled("sttd_workers", "Workers.", "state", figures.states.items())
    text = "Workers' lives ended, by reason."
    ended = CounterMetricFamily("sttd_worker_recycles", text, labels=["reason"])
    for reason, number in figures.recycles.items():
        ended.add_metric([reason], number)
    yield ended
    ceiling = figures.settings.recycle.rss_ceiling
    for name, text, read in BY_SLOT:
        values = [(worker.slot, read(worker)) for worker in figures.workers]
        yield from _labelled(f"sttd_worker_{name}", text, "slot", values)
    if ceiling:
        room = [(worker.slot, ceiling - worker.rss_bytes) for worker in figures.workers]
        text = "What it may grow before it is killed at recycle.rss_ceiling."
        yield from _labelled("sttd_worker_headroom_bytes", text, "slot", room)


def _memory(figures: Figures) -> Iterator[Metric]:
    recycle = figures.settings.recycle
    text = "recycle.rss_ceiling; 0 is off."
    yield from _gauge("sttd_worker_rss_ceiling_bytes", text, recycle.rss_ceiling)
    yield from _gauge("sttd_worker_rss_soft_bytes", "recycle.rss_soft; 0 is off.", recycle.rss_soft)
    text = "Memory that the machine, or the daemon's cgroup, has left."
    yield from _gauge("sttd_memory_available_bytes", text, figures.available)
    text = "Memory that all workers together may take."
    yield from _gauge("sttd_memory_budget_bytes", text, figures.budget)
    pressure = None if figures.pressure is None else figures.pressure / 100
    text = "Share of the last 10 s in which something waited for memory (PSI)."
    yield from _gauge("sttd_memory_pressure_ratio", text, pressure)


def _engine(figures: Figures) -> Iterator[Metric]:
    name, version = figures.engine
    value = {"engine": name, "version": version}
    yield InfoMetricFamily("sttd_engine", "The engine; version is empty until loaded.", value=value)
    states = get_args(views.EngineState)
    text = "1 for the state of the engine's service."
    yield from _one_of("sttd_engine_state", text, "state", states, figures.engine_state)
    yield from _gauge("sttd_engine_sessions", "Jobs that use the engine now.", figures.sessions)
    text = "Jobs that may use the service at once now; 0 where there is no quota."
    yield from _gauge("sttd_engine_sessions_max", text, figures.max_sessions)


def _disks(figures: Figures) -> Iterator[Metric]:
    disks = figures.disks
    free = [(disk.folder, disk.free) for disk in disks]
    text = "Bytes the daemon may still write on the disk of the folder."
    yield from _labelled("sttd_disk_free_bytes", text, "folder", free)
    sizes = [(disk.folder, disk.size) for disk in disks]
    yield from _labelled("sttd_disk_size_bytes", "Bytes of that disk.", "folder", sizes)
    least = figures.settings.limits.min_free_disk
    yield from _gauge("sttd_disk_min_free_bytes", "limits.min_free_disk.", least)
    text = "Bytes of the ledger's files."
    yield from _labelled("sttd_ledger_size_bytes", text, "file", figures.files.items())
