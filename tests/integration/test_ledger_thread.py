"""Group commit, notes that wait, answers: the ledger's one thread, on a real file."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import apsw
import pytest

from sttd.core.jobs import JobState
from sttd.supervisor.ledger import Ledger, LedgerError
from sttd.supervisor.ledger.buffer import Buffer
from sttd.supervisor.ledger.thread import _Signal
from sttd.supervisor.records import EventRow
from tests.support.ledger import (
    FAIL,
    SUCCEED,
    WALL,
    asynchronous,
    busy_thread,
    claim_one,
    commits,
    job_id,
    job_in,
    new_job,
    open_ledger,
    opened,
    untold,
)
from tests.support.waiting import eventually_async


def event(number: int, **changes: object) -> EventRow:
    values: dict[str, object] = {"at_ns": WALL + number, "name": "job.started"}
    return EventRow(**values | changes)  # type: ignore[arg-type]  # a test's few wrong values


@asynchronous
async def test_what_is_asked_during_a_commit_shares_the_next_one(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        made = commits(ledger)
        with busy_thread(ledger):
            asked = [asyncio.ensure_future(ledger.begin([new_job(n)])) for n in range(100)]
            await asyncio.sleep(0)
        rows = await asyncio.gather(*asked)
        assert [row.id for (row,) in rows] == [job_id(n) for n in range(100)]
        assert len(made) == 1


@asynchronous
async def test_a_group_has_a_limit(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        made = commits(ledger)
        with busy_thread(ledger):
            asked = [asyncio.ensure_future(ledger.begin([new_job(n)])) for n in range(600)]
            await asyncio.sleep(0)
        await asyncio.gather(*asked)
        assert len(made) == 3
        assert len(await ledger.jobs(None, 1000)) == 600


@asynchronous
async def test_one_after_the_other_has_a_commit_each(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        made = commits(ledger)
        for number in range(5):
            await ledger.begin([new_job(number)])
        assert len(made) == 5


@asynchronous
async def test_questions_commit_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        job = await job_in(ledger, JobState.QUEUED)
        made = commits(ledger)
        await asyncio.gather(ledger.job(job), ledger.counts(), ledger.jobs(None, 5))
        assert made == []


@asynchronous
async def test_a_question_sees_what_was_asked_before_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        with busy_thread(ledger):
            begun = asyncio.ensure_future(ledger.begin([new_job(1)]))
            found = asyncio.ensure_future(ledger.job(job_id(1)))
            await asyncio.sleep(0)
        assert await found == (await begun)[0]


@asynchronous
async def test_an_operation_that_is_refused_does_not_undo_its_neighbours(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await job_in(ledger, JobState.RUNNING, 1)
        made = commits(ledger)
        with busy_thread(ledger):
            asked = [
                asyncio.ensure_future(ledger.begin([new_job(2)])),
                # the second of the two is refused, and takes the first with it
                asyncio.ensure_future(ledger.begin([new_job(3), new_job(4, kind="mail")])),
                asyncio.ensure_future(ledger.begin([new_job(5, key="\udcff")])),
                asyncio.ensure_future(ledger.begin([new_job(6)])),
            ]
            await asyncio.sleep(0)
        second, third, fifth, sixth = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(third, LedgerError)
        assert "refused: CHECK constraint failed" in str(third)
        assert isinstance(fifth, UnicodeEncodeError)
        assert isinstance(second, list)
        assert isinstance(sixth, list)
        known = await ledger.known([job_id(n) for n in range(9)])
        assert known == {job_id(n) for n in (1, 2, 6)}
        assert len(made) == 1


@asynchronous
async def test_a_refused_operation_alone_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        with pytest.raises(LedgerError, match="nothing was changed"):
            await ledger.begin([new_job(1), new_job(2, kind="mail")])
        assert await ledger.jobs(None, 9) == []
        await ledger.begin([new_job(1)])


@asynchronous
async def test_an_error_of_who_knows_the_disk_reaches_who_asked(tmp_path: Path) -> None:
    def taken(name: str) -> bool:
        raise PermissionError(name)

    async with opened(tmp_path / "sttd.db", taken=taken) as ledger:
        with pytest.raises(PermissionError):
            await ledger.begin([new_job(1)])


@asynchronous
async def test_a_waiter_that_was_cancelled_disturbs_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        with busy_thread(ledger):
            lost = asyncio.ensure_future(ledger.begin([new_job(1)]))
            other = asyncio.ensure_future(ledger.begin([new_job(2)]))
            await asyncio.sleep(0)
            lost.cancel()
        await other
        assert await ledger.known([job_id(1), job_id(2)]) == {job_id(1), job_id(2)}


@asynchronous
async def test_closing_finishes_what_was_asked(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "sttd.db")
    ledger.start(untold)
    asked = [asyncio.ensure_future(ledger.begin([new_job(n)])) for n in range(500)]
    await asyncio.sleep(0)
    ledger.note([event(1)])
    await ledger.close()
    assert all(task.done() for task in asked)
    async with opened(tmp_path / "sttd.db") as successor:
        assert len(await successor.jobs(None, 1000)) == 500
        assert len(await successor.events(0, 9)) == 1


@asynchronous
async def test_an_idle_thread_sleeps(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(1)])
        ledger.note([event(1)])
        await eventually_async(lambda: not len(ledger._buffer))
        thread = next(each for each in threading.enumerate() if each.name == "sttd-ledger")
        assert thread.ident is not None
        clock = time.pthread_getcpuclockid(thread.ident)

        def sleeps() -> bool:
            before = time.clock_gettime_ns(clock)
            sum(range(100_000))  # long enough for a busy loop to be given its turn
            return time.clock_gettime_ns(clock) == before

        await eventually_async(lambda: ledger._thread._patience() is None)
        await eventually_async(sleeps)


# -- notes -----------------------------------------------------------------------------------------
@asynchronous
async def test_notes_travel_with_a_commit_that_happens_anyway(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        made = commits(ledger)
        with busy_thread(ledger):
            await ledger.record([event(1), event(2, job="j")])
            begun = asyncio.ensure_future(ledger.begin([new_job(1)]))
            await asyncio.sleep(0)
        await begun
        assert len(made) == 1
        assert len(ledger._buffer) == 0


@asynchronous
async def test_notes_that_nobody_waits_for_are_written_by_themselves(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        made = commits(ledger)
        await ledger.record([event(1)])
        await eventually_async(lambda: made)
        assert len(await ledger.events(0, 9)) == 1
        assert len(made) == 1


@asynchronous
async def test_recording_never_waits(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        with busy_thread(ledger):  # nothing can be written now
            async with asyncio.timeout(30):
                await ledger.record([event(1)])
                await ledger.assigned("j", "t", "w")
                await ledger.progress([("j", "t", 1.0)])
        assert len(await ledger.events(0, 9)) == 1


@asynchronous
async def test_a_flood_of_notes_delays_no_job_and_none_is_lost(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        with busy_thread(ledger):
            await ledger.record([event(n) for n in range(5000)])
            begun = asyncio.ensure_future(ledger.begin([new_job(1)]))
            await asyncio.sleep(0)
        await begun
        assert len(ledger._buffer) > 4000  # they did not all have to be written first
        found = await ledger.events(0, 10_000)
        assert [row.at_ns - WALL for row in found] == list(range(5000))
        assert ledger.dropped_notes == 0


@asynchronous
async def test_of_too_many_notes_the_oldest_are_dropped_and_counted(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        with busy_thread(ledger):
            for start in range(0, 12_000, 500):
                ledger.note([event(n) for n in range(start, start + 500)])
        found = await ledger.events(0, 20_000)
        assert [row.at_ns - WALL for row in found] == list(range(2000, 12_000))
        assert ledger.dropped_notes == 2000


@asynchronous
async def test_a_note_that_cannot_be_written_is_dropped_and_its_neighbours_stay(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        bad = [event(2, at_ns="soon"), event(3, name="\udcff"), event(4, at_ns=1 << 70)]
        await ledger.record([event(1), *bad, event(5)])
        assert [row.at_ns - WALL for row in await ledger.events(0, 9)] == [1, 5]
        assert ledger.dropped_notes == 3


@asynchronous
async def test_a_note_and_a_refused_operation_do_not_harm_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        with busy_thread(ledger):
            ledger.note([event(1)])
            refused = asyncio.ensure_future(ledger.begin([new_job(1, kind="mail")]))
            await asyncio.sleep(0)
        with pytest.raises(LedgerError):
            await refused
        assert len(await ledger.events(0, 9)) == 1


@asynchronous
async def test_the_last_notes_are_written_at_the_close(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        job = await job_in(ledger, JobState.RUNNING)
        token = (await ledger.in_state(JobState.RUNNING))[0].token
        assert token is not None
        await ledger.progress([(job, token, 2.5)])
    async with opened(tmp_path / "sttd.db") as ledger:
        assert (await ledger.in_state(JobState.RUNNING))[0].progress_s == 2.5


def test_what_could_not_be_written_goes_back_to_its_place() -> None:
    buffer = Buffer(3)
    notes = [("add_event", {"at_ns": n}) for n in range(5)]
    assert buffer.add(notes[:2])  # type: ignore[arg-type]  # dict is invariant
    assert not buffer.add(notes[2:3])  # type: ignore[arg-type]  # the thread knows already
    taken = buffer.take(2)
    buffer.add(notes[3:5])  # type: ignore[arg-type]  # as above
    buffer.put_back(taken)
    assert buffer.take(None) == notes[2:]
    assert buffer.dropped == 2
    assert buffer.add(notes[:1])  # type: ignore[arg-type]  # emptied: it must be told again


# -- strangers -------------------------------------------------------------------------------------
@asynchronous
async def test_a_stranger_who_reads_disturbs_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        reader = apsw.Connection(str(tmp_path / "sttd.db"), flags=apsw.SQLITE_OPEN_READONLY)
        cursor = reader.execute("BEGIN; SELECT count(*) FROM job")
        await job_in(ledger, JobState.SUCCEEDED)
        assert cursor.fetchall() == [(0,)]
        reader.close()


@asynchronous
async def test_a_strangers_lock_is_waited_for(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db", busy_timeout_s=0.2) as ledger:
        stranger = apsw.Connection(str(tmp_path / "sttd.db"))
        stranger.execute("BEGIN IMMEDIATE")
        begun = asyncio.ensure_future(ledger.begin([new_job(1)]))
        await asyncio.wait([begun], timeout=0.5)
        assert not begun.done()
        stranger.execute("ROLLBACK")
        stranger.close()
        await begun


@asynchronous
async def test_a_stranger_who_never_lets_go_is_named_and_nothing_has_changed(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "sttd.db", busy_timeout_s=0.001) as ledger:
        stranger = apsw.Connection(str(tmp_path / "sttd.db"))
        stranger.execute("BEGIN IMMEDIATE")
        ledger.note([event(1)])
        with pytest.raises(LedgerError, match="another process holds a lock"):
            await ledger.begin([new_job(1)])
        stranger.execute("ROLLBACK")
        stranger.close()
        assert await ledger.job(job_id(1)) is None
        await ledger.begin([new_job(1)])
        assert len(await ledger.events(0, 9)) == 1


@asynchronous
async def test_a_loop_that_is_gone_does_not_keep_the_thread(tmp_path: Path) -> None:
    def on_another_loop() -> Ledger:
        async def begin() -> Ledger:
            ledger = open_ledger(tmp_path / "sttd.db")
            ledger.start(untold)
            await job_in(ledger, JobState.QUEUED)
            with busy_thread(ledger):
                asyncio.ensure_future(ledger.claim(1)).cancel()
            return ledger

        return asyncio.run(begin())

    ledger = await asyncio.to_thread(on_another_loop)
    ledger._thread._queue.put(_Signal.STOP)
    await eventually_async(lambda: not ledger._thread._thread.is_alive())  # type: ignore[union-attr]  # it was started


@asynchronous
async def test_the_life_of_a_job_in_a_crowd(tmp_path: Path) -> None:
    """Many lives at once, each step in whatever group it happens to meet."""

    async def live(ledger: Ledger, number: int) -> None:
        await ledger.begin([new_job(number, stem="crowd")])
        await ledger.accept([job_id(number)])
        job = await claim_one(ledger)
        if number % 3:
            assert await ledger.succeed(job.id, job.token, **SUCCEED)
        else:
            assert await ledger.fail(job.id, job.token, **FAIL)
        await ledger.disposed(job.id, None)

    async with opened(tmp_path / "sttd.db") as ledger:
        made = commits(ledger)
        await asyncio.gather(*(live(ledger, number) for number in range(60)))
        counts = await ledger.counts()
        assert (counts.succeeded, counts.failed) == (40, 20)
        assert len(made) < 60
        assert len({row.out_name for row in await ledger.jobs(None, 99)}) == 60
