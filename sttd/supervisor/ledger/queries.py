"""What can be asked of the ledger: plain functions on the store that change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sttd.core.jobs import FINAL, JobState
from sttd.supervisor.ledger import rows
from sttd.supervisor.ledger.store import Store, Value
from sttd.supervisor.records import Attempt, Counts, EventRow, JobRow, WorkerLife

_SECOND = 1_000_000_000
_SHORTEST_HALF = 4  # fewer characters of an id say nothing
_LOOKED_THROUGH = 10_000  # latest jobs, for ids that end alike: no index serves that


def counts(store: Store) -> Counts:
    """Jobs by state, in constant time, and how long the earliest queued one has been so."""
    tally: dict[str, int] = dict(store.rows("tally"))
    oldest = store.row("oldest_queued")
    waited_ns = 0 if oldest is None else max(0, store.now_wall_ns() - oldest[0])
    return Counts(
        queued=tally["queued"],
        deferred=tally["deferred"],
        running=tally["running"],
        succeeded=tally["succeeded"],
        failed=tally["failed"],
        cancelled=tally["cancelled"],
        oldest_queued_s=waited_ns / _SECOND,
    )


def job(store: Store, job: str) -> JobRow | None:
    """The job of that id."""
    row = store.row("job_by_id", id=job)
    return None if row is None else rows.job_row(row)


def job_by_key(store: Store, key: str) -> JobRow | None:
    """The job that was submitted under that idempotency key."""
    row = store.row("job_by_key", key=key)
    return None if row is None else rows.job_row(row)


def in_state(store: Store, state: JobState) -> list[JobRow]:
    """All of them, oldest first; for claiming and running, which hold few.

    Raises:
        ValueError: the state is final: there may be a million.
    """
    if state in FINAL:
        raise ValueError(f"{state} jobs are too many to be listed at once; ask for pages of jobs")
    return [rows.job_row(row) for row in store.rows("all_open", state=state.value)]


def undisposed(store: Store, limit: int) -> list[JobRow]:
    """Finished jobs whose originals are still in the spool, longest waiting first."""
    return [rows.job_row(row) for row in store.rows("undisposed", limit=limit)]


def known(store: Store, jobs: Sequence[str]) -> set[str]:
    """Those of the ids that are jobs."""
    return {row[0] for row in store.rows("known", ids=rows.ids(jobs))}


def tokens(store: Store, jobs: Sequence[str]) -> dict[str, str]:
    """Of those of the jobs that run, the token that they run under."""
    return dict(store.rows("tokens", ids=rows.ids(jobs)))


def similar(store: Store, job: str, limit: int) -> list[str]:
    """Ids that begin or end like a mistyped or shortened one; at most `limit`."""
    wanted = job.strip().lower()
    half = max(_SHORTEST_HALF, len(wanted) // 2)
    found: dict[str, None] = {}  # a set that keeps its order
    for start in (wanted, wanted[:half]):
        if len(start) >= _SHORTEST_HALF:
            matches = store.rows("similar_start", start=start, limit=limit)
            found |= dict.fromkeys(row[0] for row in matches)
    if len(wanted) >= _SHORTEST_HALF and len(found) < limit:
        matches = store.rows(
            "similar_end", ending=wanted[-half:], latest=_LOOKED_THROUGH, limit=limit
        )
        found |= dict.fromkeys(row[0] for row in matches)
    return list(found)[:limit]


def attempts(store: Store, job: str) -> list[Attempt]:
    """How the job's attempts ended, first to last."""
    return [rows.attempt(row) for row in store.rows("attempts", job=job)]


def timeline(store: Store, job: str) -> list[dict[str, Any]]:
    """What was announced about the job, as people read it, first to last."""
    return [rows.told(row) for row in store.rows("timeline", job=job)]


def events(
    store: Store,
    since_ns: int | None,
    limit: int,
    *,
    name: str | None,
    job: str | None,
    worker: str | None,
) -> list[EventRow]:
    """The first `limit` events since then, or the last of all; in the order of time.

    The most selective filter chooses the index.
    """
    filters: dict[str, Value] = {"limit": limit}
    if job is not None:
        scope = "by_job"
        filters |= {"job": job, "name": name, "worker": worker}
    elif worker is not None:
        scope = "by_worker"
        filters |= {"worker": worker, "name": name}
    elif name is not None:
        scope = "by_name"
        filters |= {"name": name}
    else:
        scope = "by_time"
    if since_ns is None:
        found = store.rows(f"last_events_{scope}", **filters)
        found.reverse()
    else:
        found = store.rows(f"first_events_{scope}", since=since_ns, **filters)
    return [rows.event(row) for row in found]


def lives(store: Store, limit: int, *, worker: str | None) -> list[WorkerLife]:
    """How workers ended, latest first."""
    if worker is None:
        found = store.rows("lives", limit=limit)
    else:
        found = store.rows("lives_of", worker=worker, limit=limit)
    return [rows.life(row) for row in found]
