"""From the daemon's inner state to the views that clients see. Pure shaping; asks nobody."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec

from sttd.core.jobs import JobState
from sttd.core.staff import REASONS
from sttd.core.supervision import Supervision
from sttd.core.workers import Run, Worker
from sttd.supervisor.records import Counts, EventRow, JobRow, printable
from sttd.wire import views
from sttd.wire.codes import Code
from sttd.wire.messages import Walls
from sttd.wire.replies import Error
from sttd.wire.requests import RequestError

# A job is `claiming` for milliseconds, before anybody knows its id; `withdrawn` is shown as
# cancelled: its file went away before it was ours.
SHOWN = {JobState.CLAIMING: "queued", JobState.WITHDRAWN: "cancelled"}


def instant(ns: int | None) -> str | None:
    """UTC as 2026-01-31T12:00:00.000Z."""
    if ns is None:
        return None
    moment = dt.datetime.fromtimestamp(ns // 10**9, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns // 10**6 % 1000:03d}Z"


def nanoseconds(moment: str | None) -> int | None:
    """The same the other way round. Raises RequestError(bad_request) for what is no time."""
    if moment is None:
        return None
    try:
        since = dt.datetime.fromisoformat(moment) - dt.datetime.fromtimestamp(0, dt.UTC)
    except (ValueError, TypeError, OverflowError) as error:
        example = "2026-01-31T12:00:00.000Z"
        raise RequestError(
            Error.of(Code.BAD_REQUEST, f"{moment!r} is no time in UTC as {example}")
        ) from error
    return since // dt.timedelta(microseconds=1) * 1000


def job_fields(row: JobRow) -> dict[str, object]:
    """The fields of a JobView."""
    error = None
    if row.error_code:
        error = views.JobError(code=row.error_code, message=row.error_message or "")
    return {
        "job": row.id,
        "source": views.JobSource(kind=row.kind, name=printable(row.name)),
        "state": SHOWN.get(row.state, row.state.value),
        "priority": row.priority,
        "attempts": row.attempt,
        "created": instant(row.created_ns) or "",
        "started": instant(row.started_ns),
        "finished": instant(row.finished_ns),
        "duration_s": row.duration_s,
        "progress_s": row.progress_s,
        "worker": row.worker if row.state is JobState.RUNNING else None,
        "outputs": tuple(printable(name) for name in row.outputs),
        "error": error,
    }


def job_view(row: JobRow, core: Supervision | None = None) -> views.JobView:
    """A job as clients see it; `core` knows how far a running one is this very moment."""
    fields = job_fields(row)
    worker = worker_of(core, row.id) if core else None
    if worker is not None and (run := worker.run) is not None:
        fields["worker"] = worker.id  # the ledger knows it with the first progress
        fields["progress_s"] = round(run.position_s, 3)
        fields["duration_s"] = run.duration_s
    elif row.state is JobState.SUCCEEDED and row.duration_s is not None:
        fields["progress_s"] = row.duration_s
    return views.JobView(**fields)  # type: ignore[arg-type]  # the keys are JobView's, by test


def detail_view(
    row: JobRow, core: Supervision, timeline: list[views.EventView], now: float
) -> views.JobDetailView:
    """A job with its timeline, and its pace while it runs."""
    run = run_of(core, row.id)
    speed, left_s = (run.speed(now), run.left_s(now)) if run else (None, None)
    return views.JobDetailView(
        **msgspec.structs.asdict(job_view(row, core)),
        timeline=tuple(timeline),
        original=None if row.original is None else printable(row.original),
        speed=None if speed is None else round(speed, 3),
        left_s=None if left_s is None else round(left_s, 1),
    )


def run_of(core: Supervision, job: str) -> Run | None:
    """The job's run on a worker, at this moment."""
    worker = worker_of(core, job)
    return worker.run if worker else None


def worker_of(core: Supervision, job: str) -> Worker | None:
    """Who runs the job at this moment."""
    workers = core.staff.workers.values()
    return next((one for one in workers if one.run and one.run.job.id == job), None)


def event_view(row: EventRow) -> views.EventView:
    """An event as it stood in the log, from the ledger."""
    fields = msgspec.json.decode(row.fields_json)
    about = {"job": row.job, "worker": row.worker}
    head: dict[str, object] = {"timestamp": instant(row.at_ns), "event": row.name}
    head |= {key: value for key, value in about.items() if value is not None}
    return {**head, **fields}


def worker_view(worker: Worker, now: float, pss_bytes: int) -> views.WorkerView:
    """A worker as clients see it."""
    vitals = worker.vitals
    return views.WorkerView(
        id=worker.id,
        pid=worker.pid or 0,
        state=worker.state.value,
        requests=worker.requests,
        rss_bytes=vitals.rss_bytes,
        peak_rss_bytes=vitals.peak_rss_bytes,
        pss_bytes=pss_bytes,
        threads=vitals.threads,
        fds=vitals.fds,
        age_s=round(now - worker.started, 3),
        job=worker.run.job.id if worker.run else None,
    )


def pool_view(
    core: Supervision, workers: tuple[views.WorkerView, ...], folder: Path | None, why: str
) -> views.PoolView:
    """The pool; `folder` is where its control groups are, `why` says why there are none."""
    return views.PoolView(
        configured=core.staff.target,
        workers=workers,
        memory_control="polling" if folder is None else "cgroup",
        memory_control_detail=why if folder is None else str(folder),
    )


def sandbox_view(walls: Walls | None) -> views.SandboxView:
    """What stands around decoders; nothing is known before their template has tried."""
    if walls is None:
        return views.SandboxView()
    return views.SandboxView(
        landlock=walls.landlock,
        seccomp=walls.seccomp,
        files="closed" if walls.files else "open",
        network="closed" if walls.network else "open",
    )


def queue_view(counts: Counts) -> views.QueueView:
    """The counters of the ledger."""
    return views.QueueView(
        queued=counts.queued,
        deferred=counts.deferred,
        running=counts.running,
        succeeded=counts.succeeded,
        failed=counts.failed,
        cancelled=counts.cancelled,
        oldest_queued_s=round(counts.oldest_queued_s, 3),
    )


def recycles_view(core: Supervision) -> views.RecyclesView:
    """Worker lives ended, by reason."""
    return views.RecyclesView(**{reason: core.staff.recycles[reason] for reason in REASONS})
