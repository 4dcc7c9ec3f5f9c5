"""Operations by which jobs come into the ledger: begun, accepted, withdrawn, adopted.

Each is a plain function on the store, called on the ledger's thread inside a transaction; none
touches a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from sttd.core.jobs import JobState
from sttd.supervisor.ledger import rows
from sttd.supervisor.ledger.names import reserve
from sttd.supervisor.ledger.store import Store
from sttd.supervisor.records import JobRow, NewJob


def begin(store: Store, new: Sequence[NewJob]) -> list[JobRow]:
    """Rows in `claiming`, output names reserved; the existing row where key or id is known."""
    return [_keyed(store, job) or _insert(store, job, JobState.CLAIMING) for job in new]


def adopt(store: Store, new: NewJob, *, attempt: int, segments: int) -> JobRow:
    """A recording found in the spool without a row: queued, under its old id.

    A key that another job has by now is left to that job: adopting must never lose a recording.
    """
    owner = _keyed(store, new)
    if owner is not None and owner.id != new.id:
        new = msgspec.structs.replace(new, key=None)
    return _insert(store, new, JobState.QUEUED, attempt, segments)


def accept(store: Store, jobs: Sequence[str]) -> None:
    """Claiming -> queued; what is no longer claiming stays as it is."""
    now = store.now_wall_ns()
    for job in jobs:
        store.run("accept", job=job, now=now)


def withdraw(store: Store, jobs: Sequence[str]) -> None:
    """Claiming -> withdrawn; their output names are free again."""
    now = store.now_wall_ns()
    for job in jobs:
        store.run("withdraw", job=job, now=now)


def _keyed(store: Store, job: NewJob) -> JobRow | None:
    if job.key is None:
        return None
    row = store.row("job_by_key", key=job.key)
    return None if row is None else rows.job_row(row)


def _insert(
    store: Store, job: NewJob, state: JobState, attempt: int = 0, segments: int = 0
) -> JobRow:
    """The new row, or the one that has this id already."""
    now = store.now_wall_ns()
    out_name = reserve(store, job.stem, now)
    values = rows.new_job(job)
    values |= {"out_name": out_name, "state": state.value, "now": now}
    if not store.run("insert_job", attempt=attempt, segments=segments, **values):
        row = store.row("job_by_id", id=job.id)
        assert row is not None
        return rows.job_row(row)
    return rows.inserted(job, os.fsdecode(out_name), state, attempt, segments, now)
