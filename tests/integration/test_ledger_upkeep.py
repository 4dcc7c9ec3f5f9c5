"""What the ledger remembers of events and workers, and how it is kept small, whole and copied."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from sttd.core.jobs import JobState
from sttd.supervisor.ledger import LedgerError
from sttd.supervisor.records import EventRow
from tests.support.ledger import (
    REQUEUE,
    SECOND,
    WALL,
    Clock,
    asynchronous,
    attempt,
    claim_one,
    job_id,
    job_in,
    life,
    new_job,
    opened,
)


def event(number: int, name: str, job: str | None = None, worker: str | None = None) -> EventRow:
    return EventRow(
        at_ns=WALL + number * SECOND,
        name=name,
        job=job,
        worker=worker,
        fields_json=f'{{"number":{number}}}',
    )


# -- events ----------------------------------------------------------------------------------------
EVENTS = [
    event(0, "daemon.started"),
    event(1, "job.started", "a", "w-1"),
    event(2, "worker.killed", "a", "w-1"),
    event(3, "job.started", "b", "w-2"),
    event(4, "job.failed", "b", "w-2"),
    event(5, "job.started", "a", "w-2"),
]


# every combination of filters answers as a plain filter over the list does
@pytest.mark.parametrize("since", [None, 0, WALL + 2 * SECOND, WALL + 99 * SECOND])
def test_events_are_found_by_time_name_job_and_worker(since: int | None, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with opened(tmp_path / "sttd.db") as ledger:
            await ledger.record(EVENTS)
            for name, job, worker, limit in itertools.product(
                (None, "job.started", "none"), (None, "a"), (None, "w-2"), (2, 99)
            ):
                wanted = [
                    each
                    for each in EVENTS
                    if (since is None or each.at_ns >= since)
                    and name in (None, each.name)
                    and job in (None, each.job)
                    and worker in (None, each.worker)
                ]
                wanted = wanted[-limit:] if since is None else wanted[:limit]
                found = await ledger.events(since, limit, name=name, job=job, worker=worker)
                assert found == wanted

    check()


@asynchronous
async def test_a_jobs_timeline_reads_as_the_log_does(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.record(EVENTS)
        first, second, third = await ledger.timeline("a")
        assert first == {
            "timestamp": "2033-05-18T03:33:21.000Z",
            "event": "job.started",
            "job": "a",
            "worker": "w-1",
            "number": 1,
        }
        assert (second["event"], third["number"]) == ("worker.killed", 5)


@asynchronous
async def test_the_ends_of_workers_are_remembered_latest_first(tmp_path: Path) -> None:
    lives = [life("w-1", 1), life("w-2", 2), life("w-1", 3)]
    async with opened(tmp_path / "sttd.db") as ledger:
        for each in lives:
            await ledger.record_life(each)
        assert await ledger.lives(9) == lives[::-1]
        assert await ledger.lives(1) == lives[2:]
        assert await ledger.lives(9, "w-1") == [lives[2], lives[0]]


# -- pruning ---------------------------------------------------------------------------------------
@asynchronous
async def test_only_what_is_finished_and_put_away_is_pruned(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        for number, state in enumerate(JobState):
            job = await job_in(ledger, state, number)
            if state is not JobState.CANCELLED:  # that one's original is still in the spool
                await ledger.disposed(job, None)
        later = clock.wall() + SECOND
        while await ledger.prune(later, later):
            pass
        left = {row.state for row in await ledger.jobs(None, 99)}
        gone = {JobState.SUCCEEDED, JobState.FAILED, JobState.WITHDRAWN}
        assert left == set(JobState) - gone
        counts = await ledger.counts()
        assert (counts.succeeded, counts.failed, counts.cancelled) == (0, 0, 1)
        assert await ledger.integrity() == "ok"


@asynchronous
async def test_what_is_younger_stays(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        job = await job_in(ledger, JobState.SUCCEEDED)
        await ledger.disposed(job, None)
        await ledger.record(EVENTS)
        await ledger.record_life(life("w-1", 1))
        await ledger.record_life(life("w-2", 5))
        await ledger.events(0, 1)
        assert await ledger.prune(WALL, WALL + 4 * SECOND) == 5
        assert await ledger.job(job) is not None
        assert await ledger.events(0, 99) == EVENTS[4:]
        assert [each.worker for each in await ledger.lives(9)] == ["w-2"]


@asynchronous
async def test_pruning_goes_in_small_steps_and_takes_attempts_along(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        await ledger.begin([new_job(n, stem="same") for n in range(25)])
        await ledger.accept([job_id(n) for n in range(25)])
        job = await claim_one(ledger)
        assert await ledger.requeue(job.id, job.token, **REQUEUE | {"attempt": attempt(1)})
        ids = [job_id(n) for n in range(25)]
        await asyncio.gather(*(ledger.cancel(each, None) for each in ids))
        await asyncio.gather(*(ledger.disposed(each, None) for each in ids))
        later = clock.wall() + SECOND
        assert await ledger.prune(later, 0, limit=10) == 11  # and the stem
        assert await ledger.prune(later, 0, limit=10) == 10
        assert await ledger.prune(later, 0, limit=10) == 5
        assert await ledger.prune(later, 0, limit=10) == 0
        execute = ledger._store.connection.execute
        assert execute("SELECT count(*) FROM attempt").get == 0
        (row,) = await ledger.begin([new_job(99, stem="same")])
        assert row.out_name == "same"


@asynchronous
async def test_a_forgotten_number_costs_no_correctness(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        await ledger.begin([new_job(n, stem="same") for n in range(5)])
        later = clock.wall() + SECOND
        assert await ledger.prune(later, 0) == 1
        (row,) = await ledger.begin([new_job(9, stem="same")])
        assert row.out_name == "same-6"


@asynchronous
async def test_old_epochs_go_and_the_present_one_stays(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(3):
        async with opened(tmp_path / "sttd.db", clock):
            pass
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        later = clock.wall() + SECOND
        assert await ledger.prune(0, later) == 3
        assert await ledger.prune(0, later) == 0
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        assert (ledger.epoch, ledger.after_crash) == (5, False)


@asynchronous
async def test_space_is_given_back_and_the_file_stays_bounded(tmp_path: Path) -> None:
    clock = Clock()
    sizes: list[int] = []
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        for turn in range(6):
            ids = [job_id(turn * 2000 + n) for n in range(2000)]
            await ledger.begin([new_job(turn * 2000 + n, options="x" * 2000) for n in range(2000)])
            await ledger.withdraw(ids)
            while await ledger.prune(clock.wall() + SECOND, 0):
                pass
            sizes.append(ledger._store.connection.pragma("page_count"))
            free = ledger._store.connection.pragma("freelist_count")
            assert free <= 1024
        assert max(sizes) <= 1200
        assert await ledger.integrity() == "ok"


# -- copies ----------------------------------------------------------------------------------------
@asynchronous
async def test_a_backup_is_a_whole_ledger(tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "monday.db"
    copy.parent.mkdir()
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(n) for n in range(2000)])
        await ledger.backup(copy)
        await ledger.begin([new_job(5000)])
        assert copy.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in copy.parent.iterdir()] == ["monday.db"]
    async with opened(copy) as restored:
        assert await restored.integrity() == "ok"
        assert len(await restored.jobs(None, 9999)) == 2000


@asynchronous
async def test_jobs_go_on_during_a_backup_and_the_copy_is_consistent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sttd.supervisor.ledger.upkeep._PAGES_A_STEP", 16)  # many steps
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(n, options="x" * 3000) for n in range(3000)])
        copying = asyncio.ensure_future(ledger.backup(tmp_path / "copy.db"))
        during = 0
        while not copying.done():
            await ledger.begin([new_job(10_000 + during)])
            during += 1
        await copying
        assert during > 2
    async with opened(tmp_path / "copy.db") as restored:
        assert await restored.integrity() == "ok"
        assert 3000 <= len(await restored.jobs(None, 99_999)) <= 3000 + during


@asynchronous
async def test_a_backup_replaces_an_earlier_one_and_a_half_one(tmp_path: Path) -> None:
    (tmp_path / "copy.db.part").write_bytes(b"half")
    (tmp_path / "copy.db").write_bytes(b"earlier")
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.backup(tmp_path / "copy.db")
    async with opened(tmp_path / "copy.db") as restored:
        assert await restored.integrity() == "ok"


@asynchronous
async def test_a_backup_that_cannot_be_written_harms_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        with pytest.raises(LedgerError, match=r"nowhere/copy\.db: the backup cannot be written"):
            await ledger.backup(tmp_path / "nowhere" / "copy.db")
        before = len(os.listdir("/proc/self/fd"))
        (tmp_path / "copy.db").mkdir()
        with pytest.raises(LedgerError, match="Is a directory"):
            await ledger.backup(tmp_path / "copy.db")
        assert len(os.listdir("/proc/self/fd")) == before
        assert not (tmp_path / "copy.db.part").exists()
        await ledger.begin([new_job(1)])


@asynchronous
async def test_closing_finishes_a_backup(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(n, options="x" * 3000) for n in range(1000)])
        copying = asyncio.ensure_future(ledger.backup(tmp_path / "copy.db"))
        await asyncio.sleep(0)
    await copying
    async with opened(tmp_path / "copy.db") as restored:
        assert len(await restored.jobs(None, 9999)) == 1000


@asynchronous
async def test_damage_is_described(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await job_in(ledger, JobState.FAILED)
        execute = ledger._store.connection.execute
        execute("PRAGMA writable_schema = ON").fetchall()
        execute("UPDATE sqlite_schema SET sql = replace(sql, 'state', 'uid') "
                "WHERE name = 'job_ended'")  # fmt: skip
        execute("PRAGMA writable_schema = RESET").fetchall()
        assert "job_ended" in await ledger.integrity()
