"""Each operation of the ledger, on a real file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from sttd.core.jobs import FINAL, TRANSITIONS, Job, JobState
from sttd.supervisor.ledger import Ledger, LedgerError
from sttd.supervisor.records import Counts, JobRow, Selection, Signature
from tests.support.ledger import (
    FAIL,
    REQUEUE,
    SECOND,
    SUCCEED,
    WALL,
    Clock,
    asynchronous,
    attempt,
    claim_one,
    job_id,
    job_in,
    new_job,
    opened,
)


async def row_of(ledger: Ledger, job: str) -> JobRow:
    row = await ledger.job(job)
    assert row is not None
    return row


# -- arrival ---------------------------------------------------------------------------------------
@asynchronous
async def test_a_new_job_is_kept_as_it_came(tmp_path: Path) -> None:
    clock = Clock()
    new = new_job(
        1,
        kind="control",
        sidecar=Signature(1, 2, 3, 4, 5),
        options='{"languages":["de-DE"]}',
        priority=-3,
        key="once",
        uid=1000,
    )
    async with opened(tmp_path / "l" / "sttd.db", clock) as ledger:
        (row,) = await ledger.begin([new])
        assert row == JobRow(
            id=new.id,
            kind="control",
            name="a/meeting-1.wav",
            signature=new.signature,
            sidecar=new.sidecar,
            out_name="a/meeting-1",
            options=new.options,
            priority=-3,
            key="once",
            uid=1000,
            state=JobState.CLAIMING,
            attempt=0,
            failures=0,
            crashes=0,
            interrupted=0,
            segments=0,
            token=None,
            worker=None,
            size=101,
            sha256=None,
            duration_s=None,
            progress_s=0.0,
            outputs=(),
            original=None,
            disposed=False,
            error_code=None,
            error_message=None,
            created_ns=row.created_ns,
            started_ns=None,
            finished_ns=None,
        )
        assert WALL < row.created_ns <= clock.wall_ns
        assert await ledger.job(new.id) == row


@asynchronous
async def test_names_that_are_no_text_and_huge_inode_numbers_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9/\n\x01.wav")
    signature = Signature((1 << 64) - 1, 1 << 63, 5, -1, 1)
    new = new_job(1, name=name, stem=name.removesuffix(".wav"), signature=signature)
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new])
        await ledger.accept([new.id])
        job = await claim_one(ledger)
        assert job.name == "caf\\xe9/\n\x01.wav"
        outputs = [f"{job.out_name}.txt", f"{job.out_name}.json"]
        assert await ledger.succeed(job.id, job.token, **SUCCEED | {"outputs": outputs})
        await ledger.disposed(job.id, f"done/{name}")
    async with opened(tmp_path / "sttd.db") as ledger:
        row = await row_of(ledger, new.id)
        assert (row.name, row.signature) == (name, signature)
        assert row.outputs == tuple(outputs)
        assert row.original == f"done/{name}"


@asynchronous
async def test_a_known_key_gives_the_job_that_has_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        (first,) = await ledger.begin([new_job(1, key="k")])
        second, third, other = await ledger.begin(
            [new_job(2, key="k"), new_job(3, key="k"), new_job(4)]
        )
        assert second == third == first
        assert other.id == job_id(4)
        assert await ledger.job_by_key("k") == first
        assert await ledger.job_by_key("unknown") is None
        assert await ledger.known([job_id(n) for n in range(9)]) == {job_id(1), job_id(4)}


@asynchronous
async def test_one_key_twice_in_a_call_makes_one_job(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        rows = await ledger.begin([new_job(1, key="k"), new_job(2, key="k")])
        assert [row.id for row in rows] == [job_id(1), job_id(1)]


@asynchronous
async def test_beginning_the_same_job_again_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(1)])
        await ledger.accept([job_id(1)])
        before = await ledger.job(job_id(1))
        (row,) = await ledger.begin([new_job(1)])
        assert row == before


@asynchronous
async def test_outputs_of_one_name_are_numbered(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        rows = await ledger.begin([new_job(n, stem="a/meeting") for n in range(1, 4)])
        assert [row.out_name for row in rows] == ["a/meeting", "a/meeting-2", "a/meeting-3"]
        rows = await ledger.begin(
            [new_job(4, stem="a/meeting-2"), new_job(5, stem="a/meeting"), new_job(6, stem="b")]
        )
        assert [row.out_name for row in rows] == ["a/meeting-2-2", "a/meeting-4", "b"]


@asynchronous
async def test_a_name_that_is_taken_on_the_disk_is_passed_over(tmp_path: Path) -> None:
    taken = {"m", "m-2", "m-4"}
    async with opened(tmp_path / "sttd.db", taken=taken.__contains__) as ledger:
        rows = await ledger.begin([new_job(n, stem="m") for n in range(3)])
        assert [row.out_name for row in rows] == ["m-3", "m-5", "m-6"]
        taken.remove("m")
        (row,) = await ledger.begin([new_job(9, stem="m")])
        assert row.out_name == "m"


@asynchronous
async def test_a_withdrawn_job_gives_its_name_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await job_in(ledger, JobState.WITHDRAWN)
        (row,) = await ledger.begin([new_job(2, stem=new_job(1).stem)])
        assert row.out_name == new_job(1).stem


@asynchronous
async def test_ten_thousand_jobs_of_one_name_do_not_search_for_it(tmp_path: Path) -> None:
    looks: list[str] = []

    def taken(name: str) -> bool:
        looks.append(name)
        return False

    async with opened(tmp_path / "sttd.db", taken=taken) as ledger:
        rows = await ledger.begin([new_job(n, stem="same") for n in range(10_000)])
    assert len({row.out_name for row in rows}) == 10_000
    assert rows[-1].out_name == "same-10000"
    assert len(looks) == 10_000


@asynchronous
async def test_an_output_is_renamed_to_the_next_number_of_its_name(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(n, stem="m") for n in (1, 2)] + [new_job(3, stem="call-2031")])
        await ledger.accept([job_id(n) for n in (1, 2, 3)])
        jobs = await ledger.claim(3)
        assert [await ledger.rename_output(job.id) for job in jobs] == ["m-3", "m-4", "call-2031-2"]
        assert await ledger.rename_output(jobs[0].id) == "m-5"
        assert (await row_of(ledger, jobs[0].id)).out_name == "m-5"
        with pytest.raises(LedgerError, match="not running"):
            await ledger.rename_output(await job_in(ledger, JobState.QUEUED, 7))


@asynchronous
async def test_an_orphan_of_the_spool_is_adopted_as_queued(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(1, key="k")])
        row = await ledger.adopt(new_job(2, key="own"), attempt=3, segments=7)
        assert (row.state, row.attempt, row.segments, row.key) == (JobState.QUEUED, 3, 7, "own")
        assert row == await ledger.job(row.id)
        assert await ledger.adopt(new_job(2, key="own")) == row
        assert (await ledger.adopt(new_job(3, key="k"))).key is None  # another's by now
        assert [job.attempt for job in await ledger.claim(9)] == [4, 1]


# -- claiming --------------------------------------------------------------------------------------
@asynchronous
async def test_urgent_jobs_are_claimed_first_and_then_the_oldest(tmp_path: Path) -> None:
    priorities = [0, 5, 0, -1, 5]
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(n, priority=p) for n, p in enumerate(priorities)])
        await ledger.accept([job_id(n) for n in (4, 3, 2, 1, 0)])
        first = await ledger.claim(3)
        assert [job.id for job in first] == [job_id(n) for n in (1, 4, 0)]
        assert [job.priority for job in first] == [5, 5, 0]
        assert [job.id for job in await ledger.claim(9)] == [job_id(2), job_id(3)]
        assert await ledger.claim(9) == []


@asynchronous
async def test_a_probe_is_the_job_that_was_tried_least(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(n) for n in range(3)])
        await ledger.accept([job_id(n) for n in range(3)])
        tried = []
        for _ in range(5):
            (job,) = await ledger.claim(1, probe=True)
            tried.append(job.id)
            await ledger.requeue(
                job.id,
                job.token,
                delay_s=0.0,
                failures=0,
                crashes=0,
                segments=0,
                interrupted=False,
                attempt=None,
            )
        assert tried == [job_id(n) for n in (0, 1, 2, 0, 1)]
        assert [job.id for job in await ledger.claim(1)] == [job_id(0)]


@asynchronous
async def test_a_job_that_is_not_accepted_is_not_claimed(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(1)])
        assert await ledger.claim(1) == []


@asynchronous
async def test_each_claim_has_a_token_of_its_own_and_counts(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(1, options='{"x":1}')])
        await ledger.accept([job_id(1)])
        one = await claim_one(ledger)
        changes = {"failures": 2, "crashes": 1, "segments": 5, "interrupted": True}
        assert await ledger.requeue(one.id, one.token, **REQUEUE | changes)
        two = await claim_one(ledger)
        assert one.token != two.token
        assert (one.attempt, two.attempt) == (1, 2)
        assert (two.failures, two.crashes, two.segments) == (2, 1, 5)
        assert (two.size, two.options) == (101, '{"x":1}')
        row = await row_of(ledger, one.id)
        assert (row.interrupted, row.token, row.state) == (1, two.token, JobState.RUNNING)
        assert row.started_ns is not None


@asynchronous
async def test_who_runs_a_job_and_how_far_is_shown(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        job = await _running(ledger)
        await ledger.assigned(job.id, job.token, "w-17")
        await ledger.progress([(job.id, job.token, 3.0), (job.id, job.token, 4.5)])
        await ledger.timeline(job.id)  # a question that wants the notes written
        row = await row_of(ledger, job.id)
        assert (row.worker, row.progress_s) == ("w-17", 4.5)
        assert await ledger.requeue(job.id, job.token, **REQUEUE)
        assert (await row_of(ledger, job.id)).worker is None
        await ledger.progress([(job.id, job.token, 99.0)])
        await ledger.timeline(job.id)
        assert (await row_of(ledger, job.id)).progress_s == 4.5


# -- every operation in every state ----------------------------------------------------------------
Move = Callable[[Ledger, str, str], Awaitable[object]]
# the operation, the states it leaves, and the state it leads to
MOVES: dict[str, tuple[Move, set[str], str]] = {
    "accept": (lambda led, job, _: led.accept([job]), {"claiming"}, "queued"),
    "withdraw": (lambda led, job, _: led.withdraw([job]), {"claiming"}, "withdrawn"),
    "claim": (lambda led, _, __: led.claim(1), {"queued"}, "running"),
    "succeed": (lambda led, job, t: led.succeed(job, t, **SUCCEED), {"running"}, "succeeded"),
    "requeue": (lambda led, job, t: led.requeue(job, t, **REQUEUE), {"running"}, "queued"),
    "defer": (
        lambda led, job, t: led.requeue(job, t, **REQUEUE | {"delay_s": 9.0}),
        {"running"},
        "deferred",
    ),
    "fail": (lambda led, job, t: led.fail(job, t, **FAIL), {"running"}, "failed"),
    "reject": (lambda led, job, _: led.fail(job, None, **FAIL), {"claiming", "queued"}, "failed"),
    "cancel": (
        lambda led, job, t: led.cancel(job, t),
        {"queued", "deferred", "running"},
        "cancelled",
    ),
    "cancel without a token": (
        lambda led, job, _: led.cancel(job, None),
        {"queued", "deferred"},
        "cancelled",
    ),
    "retry": (lambda led, job, _: led.retry(job), {"failed", "cancelled"}, "queued"),
    "interrupted": (lambda led, _, __: led.interrupted(), {"running"}, "queued"),
    "wake": (lambda led, _, __: led.wake(), {"deferred"}, "queued"),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_move_leaves_its_states_and_changes_nothing_in_others(name: str, tmp_path: Path) -> None:
    operation, leaves, leads_to = MOVES[name]

    @asynchronous
    async def check() -> None:
        for state in JobState:
            clock = Clock()
            async with opened(tmp_path / state / "sttd.db", clock) as ledger:
                job = await job_in(ledger, state)
                before = await row_of(ledger, job)
                clock.boottime_ns += 3600 * SECOND
                answer = await operation(ledger, job, before.token or "of another time")
                after = await row_of(ledger, job)
                if state in leaves:
                    assert after.state == leads_to
                    assert answer not in (False, [], 0)
                    path = {after.state} | ({JobState.QUEUED} if name == "reject" else set())
                    assert TRANSITIONS[state] & path
                else:
                    assert after == before
                    assert answer in (None, False, [], 0, (0, None))

    check()


@pytest.mark.parametrize("name", ["succeed", "requeue", "defer", "fail", "cancel"])
def test_a_late_token_changes_nothing(name: str, tmp_path: Path) -> None:
    operation = MOVES[name][0]

    @asynchronous
    async def check() -> None:
        async with opened(tmp_path / "sttd.db") as ledger:
            job = await job_in(ledger, JobState.RUNNING)
            late = await row_of(ledger, job)
            assert await ledger.interrupted() == 1
            await claim_one(ledger)
            now = await row_of(ledger, job)
            assert late.token is not None
            assert not await operation(ledger, job, late.token)
            assert await row_of(ledger, job) == now
            assert await ledger.attempts(job) == []

    check()


@asynchronous
async def test_an_unknown_job_cannot_be_moved(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.accept(["nobody"])
        await ledger.withdraw(["nobody"])
        await ledger.disposed("nobody", None)
        assert not await ledger.succeed("nobody", "t", **SUCCEED)
        assert not await ledger.requeue("nobody", "t", **REQUEUE)
        assert not await ledger.fail("nobody", None, **FAIL)
        assert await ledger.cancel("nobody", "t") is None
        assert not await ledger.retry("nobody")
        assert await ledger.job("nobody") is None
        assert await ledger.counts() == Counts()


# -- ends ------------------------------------------------------------------------------------------
@asynchronous
async def test_a_success_is_kept_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        job = await job_in(ledger, JobState.SUCCEEDED)
        row = await row_of(ledger, job)
        assert (row.outputs, row.duration_s, row.progress_s) == (("a.json",), 1.5, 1.5)
        assert (row.sha256, row.segments, row.token) == ("ab", 2, None)
        assert row.finished_ns is not None
        assert not row.disposed


@asynchronous
async def test_a_failure_is_kept_with_its_reason_and_its_attempts(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        job = await _running(ledger)
        assert await ledger.requeue(job.id, job.token, **REQUEUE | {"attempt": attempt(1)})
        job = await claim_one(ledger)
        untimed = msgspec.structs.replace(attempt(2, "crashed"), at_ns=0)
        message = f"cannot read {os.fsdecode(b'caf' + bytes([0xE9]))}"
        assert await ledger.fail(
            job.id, job.token, code="quarantined", message=message, attempt=untimed
        )
        row = await row_of(ledger, job.id)
        assert (row.error_code, row.error_message) == ("quarantined", "cannot read caf\\xe9")
        first, second = await ledger.attempts(job.id)
        assert first == attempt(1)
        assert second.code == "crashed"
        assert WALL < second.at_ns <= clock.wall_ns


@asynchronous
async def test_attempts_without_end_are_kept_to_the_latest(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        job = await _running(ledger)
        for number in range(1, 141):
            assert await ledger.requeue(job.id, job.token, **REQUEUE | {"attempt": attempt(number)})
            job = await claim_one(ledger)
        kept = await ledger.attempts(job.id)
        assert [each.attempt for each in kept] == list(range(13, 141))


@asynchronous
async def test_a_retried_job_is_as_new_but_for_the_number_of_its_starts(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        job = await _running(ledger)
        changes = {"failures": 3, "crashes": 1, "segments": 9, "interrupted": True}
        assert await ledger.requeue(job.id, job.token, **REQUEUE | changes)
        job = await claim_one(ledger)
        await ledger.progress([(job.id, job.token, 7.0)])
        assert await ledger.fail(job.id, job.token, **FAIL)
        await ledger.disposed(job.id, "failed/a.wav")
        assert await ledger.retry(job.id)
        row = await row_of(ledger, job.id)
        assert (row.failures, row.crashes, row.interrupted, row.segments) == (0, 0, 0, 0)
        assert (row.disposed, row.original, row.error_code, row.progress_s) == (
            False, None, None, 0.0,
        )  # fmt: skip
        assert row.finished_ns is None
        assert (await claim_one(ledger)).attempt == 3


@asynchronous
async def test_disposal_is_noted_of_finished_jobs_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        for number, state in enumerate(JobState):
            job = await job_in(ledger, state, number)
            await ledger.disposed(job, "done/x.wav")
            row = await row_of(ledger, job)
            assert row.disposed == (state in FINAL)
            put_away = state in FINAL and state is not JobState.WITHDRAWN
            assert row.original == ("done/x.wav" if put_away else None)


@asynchronous
async def test_the_undisposed_are_found_longest_waiting_first(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(n) for n in range(4)])
        await ledger.accept([job_id(n) for n in range(4)])
        for number in (2, 0, 1):
            await ledger.cancel(job_id(number), None)
        await ledger.disposed(job_id(0), None)
        found = await ledger.undisposed(10)
        assert [row.id for row in found] == [job_id(2), job_id(1)]
        assert len(await ledger.undisposed(1)) == 1


# -- waiting ---------------------------------------------------------------------------------------
@asynchronous
async def test_a_deferred_job_waits_for_its_time_by_the_boot_clock(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        await job_in(ledger, JobState.DEFERRED)
        clock.wall_ns += 86_400 * SECOND  # a jump of the wall clock means nothing
        assert await ledger.wake() == (0, 30.0)
        clock.boottime_ns += 29 * SECOND
        assert await ledger.wake() == (0, 1.0)
        assert await ledger.claim(1) == []
        clock.boottime_ns += SECOND
        assert await ledger.wake() == (1, None)
        assert len(await ledger.claim(1)) == 1


@asynchronous
async def test_a_deferred_job_keeps_its_time_over_a_restart_of_the_daemon(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        await job_in(ledger, JobState.DEFERRED)
    clock.boottime_ns += 20 * SECOND
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        assert await ledger.wake() == (0, 10.0)


@pytest.mark.parametrize("boottime_s", [5, 1_000_000])
def test_after_a_reboot_a_deferred_job_waits_its_delay_anew(
    boottime_s: int, tmp_path: Path
) -> None:
    @asynchronous
    async def check() -> None:
        async with opened(tmp_path / "sttd.db", boot_id="one") as ledger:
            await job_in(ledger, JobState.DEFERRED)
        clock = Clock()
        clock.boottime_ns = boottime_s * SECOND
        async with opened(tmp_path / "sttd.db", clock, boot_id="two") as ledger:
            assert await ledger.wake() == (0, 30.0)

    check()


@asynchronous
async def test_nobody_waits_longer_than_wished_when_the_boot_clock_went_back(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        await job_in(ledger, JobState.DEFERRED)
    clock.boottime_ns = SECOND  # a restored virtual machine
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        assert await ledger.wake() == (0, 30.0)


@asynchronous
async def test_very_many_are_woken_in_several_transactions(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        await ledger.begin([new_job(n) for n in range(1500)])
        await ledger.accept([job_id(n) for n in range(1500)])
        late = REQUEUE | {"delay_s": 1.0}
        jobs = await ledger.claim(1500)
        await asyncio.gather(*(ledger.requeue(job.id, job.token, **late) for job in jobs))
        clock.boottime_ns += 5 * SECOND
        assert await ledger.wake() == (1000, 0.0)
        assert await ledger.wake() == (500, None)


@asynchronous
async def test_jobs_that_ran_when_the_daemon_died_are_queued_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await job_in(ledger, JobState.RUNNING, 1)
        await job_in(ledger, JobState.CLAIMING, 2)
    async with opened(tmp_path / "sttd.db") as ledger:
        assert [row.id for row in await ledger.in_state(JobState.RUNNING)] == [job_id(1)]
        assert [row.id for row in await ledger.in_state(JobState.CLAIMING)] == [job_id(2)]
        assert await ledger.interrupted() == 1
        row = await row_of(ledger, job_id(1))
        assert (row.state, row.interrupted, row.attempt) == (JobState.QUEUED, 1, 1)
        assert await ledger.interrupted() == 0


# -- questions -------------------------------------------------------------------------------------
@asynchronous
async def test_jobs_are_counted_by_state(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        for number, state in enumerate(sorted(JobState, key=lambda s: s is JobState.QUEUED)):
            await job_in(ledger, state, number)
        counts = await ledger.counts()
        states = ("queued", "deferred", "running", "succeeded", "failed", "cancelled")
        assert [getattr(counts, state) for state in states] == [1] * 6
        clock.wall_ns += 40 * SECOND
        assert round((await ledger.counts()).oldest_queued_s) == 40
        clock.wall_ns -= 3600 * SECOND
        assert (await ledger.counts()).oldest_queued_s == 0.0


@asynchronous
async def test_a_retried_job_has_not_been_queued_since_its_arrival(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "sttd.db", clock) as ledger:
        job = await job_in(ledger, JobState.FAILED)
        clock.wall_ns += 86_400 * SECOND
        assert await ledger.retry(job)
        assert round((await ledger.counts()).oldest_queued_s) == 0


@asynchronous
async def test_jobs_are_listed_newest_first_a_page_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(n) for n in range(6)])
        await ledger.accept([job_id(n) for n in range(5)])
        await ledger.cancel(job_id(3), None)

        async def page(state: JobState | None, before: int | None) -> list[str]:
            last = None if before is None else job_id(before)
            return [row.id[-1] for row in await ledger.jobs(state, 2, last)]

        assert await page(None, None) == ["5", "4"]
        assert await page(None, 4) == ["3", "2"]
        assert await page(None, 0) == []
        assert await page(JobState.QUEUED, None) == ["4", "2"]
        assert await page(JobState.QUEUED, 2) == ["1", "0"]
        assert await page(JobState.CANCELLED, None) == ["3"]
        assert await page(JobState.CANCELLED, 3) == []


@pytest.mark.parametrize("oldest", [False, True])
def test_what_was_never_accepted_is_listed_as_no_job(tmp_path: Path, *, oldest: bool) -> None:
    @asynchronous
    async def check() -> None:
        async with opened(tmp_path / "sttd.db") as ledger:
            await ledger.begin([new_job(1), new_job(2), new_job(3, key="k")])
            await ledger.accept([job_id(1)])
            await ledger.withdraw([job_id(2)])
            page = await ledger.page(Selection(limit=9, oldest=oldest))
            assert [row.id for row in page.jobs] == [job_id(1)]
            assert (await ledger.page(Selection(limit=9, key="k"))).jobs == []
            assert len(await ledger.jobs(JobState.WITHDRAWN, 9)) == 1

    check()


@asynchronous
async def test_a_listing_goes_on_although_its_last_job_was_pruned(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(n) for n in (1, 2, 4)])
        rows = await ledger.jobs(None, 9, job_id(3))
        assert [row.id for row in rows] == [job_id(2), job_id(1)]


@asynchronous
async def test_all_jobs_of_a_final_state_cannot_be_asked_for_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        with pytest.raises(ValueError, match="ask for pages"):
            await ledger.in_state(JobState.SUCCEEDED)


@asynchronous
async def test_a_mistyped_id_suggests_near_ones(tmp_path: Path) -> None:
    wanted = "0196e111-2222-7333-8444-555566667777"
    other = "0296e111-2222-7333-8444-999999999999"
    async with opened(tmp_path / "sttd.db") as ledger:
        await ledger.begin([new_job(1, id=wanted), new_job(2, id=other)])
        for mistyped in (
            wanted[:8],  # shortened
            wanted[-8:],  # the end alone
            wanted.replace("5555", "5x55"),  # wrong at the end
            "0" + wanted,  # one too many at the start
            wanted.upper() + " ",
        ):
            assert await ledger.similar(mistyped) == [wanted], mistyped
        assert await ledger.similar("ffffffff") == []
        assert await ledger.similar("") == []
        assert await ledger.similar("%_'\"g") == []


async def _running(ledger: Ledger) -> Job:
    await ledger.begin([new_job(1)])
    await ledger.accept([job_id(1)])
    return await claim_one(ledger)
