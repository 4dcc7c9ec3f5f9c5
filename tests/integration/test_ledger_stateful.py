"""The ledger against a plain dict: whatever is done in whatever order, they agree."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
)

from sttd.core.jobs import FINAL, TRANSITIONS, JobState
from tests.support.ledger import (
    FAIL,
    REQUEUE,
    SECOND,
    SUCCEED,
    Clock,
    attempt,
    job_id,
    new_job,
    open_ledger,
    untold,
)

S = JobState


@dataclass
class Model:
    """A job as the test believes it to be."""

    priority: int
    key: str | None
    out_name: str
    order: int
    state: JobState = S.CLAIMING
    token: str | None = None
    attempt: int = 0
    failures: int = 0
    interrupted: int = 0
    disposed: bool = False
    delay_ns: int = 0
    due_ns: int = 0
    ended: int = 0  # attempts kept
    tokens: set[str] = field(default_factory=set)

    def move(self, state: JobState) -> None:
        assert state in TRANSITIONS[self.state]
        self.state = state
        self.token = None


class LedgerMachine(RuleBasedStateMachine):
    """Rules do the same to the ledger and to `self.jobs`."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.boot = 1
        self.jobs: dict[str, Model] = {}
        self.order = 0
        self.open()

    def open(self) -> None:
        path = self.folder / "sttd.db"
        self.ledger = open_ledger(path, self.clock, boot_id=str(self.boot))
        self.do(self.start())

    async def start(self) -> None:
        self.ledger.start(untold)

    def do(self, asked: Any) -> Any:
        async def ask() -> Any:
            return await asked

        return self.runner.run(ask())

    def teardown(self) -> None:
        self.do(self.ledger.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    # -- arrival ---------------------------------------------------------------------------
    @rule(
        target=ids,
        wishes=st.lists(
            st.tuples(
                st.sampled_from(["a", "a-2", "b"]),
                st.integers(-1, 1),
                st.sampled_from([None, None, "k1", "k2"]),
            ),
            max_size=3,
        ),
    )
    def begin(self, wishes: list[tuple[str, int, str | None]]) -> Any:
        new = []
        for stem, priority, key in wishes:
            self.order += 1
            new.append(new_job(self.order, stem=stem, priority=priority, key=key))
        made = []
        for wish, row in zip(new, self.do(self.ledger.begin(new)), strict=True):
            owner = next((i for i, m in self.jobs.items() if m.key and m.key == wish.key), None)
            if owner is not None:
                assert row.id == owner
                continue
            assert row.id == wish.id
            self.add(wish.id, wish.priority, wish.key, row.out_name)
            made.append(wish.id)
        return multiple(*made)

    def add(self, job: str, priority: int, key: str | None, out_name: str) -> Model:
        names = {m.out_name for m in self.jobs.values() if m.state is not S.WITHDRAWN}
        assert out_name not in names
        order = int(job.replace("-", "")[-4:], 16)
        self.jobs[job] = Model(priority, key, out_name, order)
        return self.jobs[job]

    @rule(target=ids, key=st.sampled_from([None, "k1"]))
    def adopt(self, key: str | None) -> str:
        self.order += 1
        row = self.do(self.ledger.adopt(new_job(self.order, stem="a", key=key), attempt=2))
        if key and any(m.key == key for m in self.jobs.values()):
            key = None
        assert row.key == key
        job = self.add(row.id, 0, key, row.out_name)
        job.state, job.attempt = S.QUEUED, 2
        return str(row.id)

    @rule(job=ids)
    def accept(self, job: str) -> None:
        self.do(self.ledger.accept([job]))
        if (model := self.jobs.get(job)) and model.state is S.CLAIMING:
            model.move(S.QUEUED)

    @rule(job=ids)
    def withdraw(self, job: str) -> None:
        self.do(self.ledger.withdraw([job]))
        if (model := self.jobs.get(job)) and model.state is S.CLAIMING:
            model.move(S.WITHDRAWN)
            model.disposed, model.key = True, None

    # -- running ---------------------------------------------------------------------------
    @rule(limit=st.integers(0, 3))
    def claim(self, limit: int) -> None:
        queued = [(-m.priority, m.order, i) for i, m in self.jobs.items() if m.state is S.QUEUED]
        found = self.do(self.ledger.claim(limit))
        assert [job.id for job in found] == [i for _, __, i in sorted(queued)[:limit]]
        for job in found:
            model = self.jobs[job.id]
            model.move(S.RUNNING)
            assert job.token not in model.tokens
            model.token = job.token
            model.tokens.add(job.token)
            model.attempt += 1
            assert (job.attempt, job.failures) == (model.attempt, model.failures)

    def holds(self, job: str, late: bool) -> tuple[str, bool]:
        """A token to try with, and whether it is the right one."""
        model = self.jobs.get(job)
        if model is None or model.token is None or late:
            old = sorted(model.tokens - {model.token}) if model else []
            return (old[0] if old else "never given"), False
        return model.token, True

    @rule(job=ids, late=st.booleans())
    def succeed(self, job: str, late: bool) -> None:
        token, right = self.holds(job, late)
        assert self.do(self.ledger.succeed(job, token, **SUCCEED)) == right
        if right:
            self.jobs[job].move(S.SUCCEEDED)

    @rule(
        job=ids,
        late=st.booleans(),
        delay=st.sampled_from([0.0, 5.0, 60.0]),
        failures=st.integers(0, 3),
        interrupted=st.booleans(),
    )
    def requeue(self, job: str, late: bool, delay: float, failures: int, interrupted: bool) -> None:
        token, right = self.holds(job, late)
        how = {"delay_s": delay, "failures": failures, "interrupted": interrupted}
        how["attempt"] = attempt(1)  # type: ignore[assignment]  # a dict of anything
        assert self.do(self.ledger.requeue(job, token, **REQUEUE | how)) == right
        if right:
            model = self.jobs[job]
            model.move(S.DEFERRED if delay else S.QUEUED)
            model.failures, model.ended = failures, model.ended + 1
            model.interrupted += interrupted
            model.delay_ns = round(delay * SECOND)
            model.due_ns = self.clock.boottime_ns + model.delay_ns

    @rule(job=ids, late=st.booleans())
    def fail_running(self, job: str, late: bool) -> None:
        token, right = self.holds(job, late)
        assert self.do(self.ledger.fail(job, token, **FAIL)) == right
        if right:
            self.jobs[job].move(S.FAILED)

    @rule(job=ids)
    def reject(self, job: str) -> None:
        model = self.jobs.get(job)
        right = model is not None and model.state in (S.CLAIMING, S.QUEUED)
        assert self.do(self.ledger.fail(job, None, **FAIL)) == right
        if right and model is not None:
            model.state = S.FAILED

    @rule(job=ids, late=st.booleans())
    def cancel(self, job: str, late: bool) -> None:
        token, right = self.holds(job, late)
        model = self.jobs.get(job)
        right = right or (model is not None and model.state in (S.QUEUED, S.DEFERRED))
        answer = self.do(self.ledger.cancel(job, token))
        assert answer == (S.CANCELLED if right else None)
        if right and model is not None:
            model.move(S.CANCELLED)

    @rule(job=ids)
    def retry(self, job: str) -> None:
        model = self.jobs.get(job)
        right = model is not None and model.state in (S.FAILED, S.CANCELLED)
        assert self.do(self.ledger.retry(job)) == right
        if right and model is not None:
            model.move(S.QUEUED)
            model.failures = model.interrupted = 0
            model.disposed = False

    @rule(job=ids)
    def dispose(self, job: str) -> None:
        self.do(self.ledger.disposed(job, "done/a.wav"))
        if (model := self.jobs.get(job)) and model.state in FINAL:
            model.disposed = True

    # -- time ------------------------------------------------------------------------------
    @rule(seconds=st.integers(0, 40), wall=st.integers(-100_000, 100_000))
    def time_passes(self, seconds: int, wall: int) -> None:
        self.clock.boottime_ns += seconds * SECOND
        self.clock.wall_ns += wall * SECOND  # means nothing

    @rule()
    def wake(self) -> None:
        waiting = [m for m in self.jobs.values() if m.state is S.DEFERRED]
        due = [m for m in waiting if m.due_ns <= self.clock.boottime_ns]
        rest = [m.due_ns for m in waiting if m not in due]
        following = (min(rest) - self.clock.boottime_ns) / SECOND if rest else None
        assert self.do(self.ledger.wake()) == (len(due), following)
        for model in due:
            model.move(S.QUEUED)

    @rule()
    def prune(self) -> None:
        before = self.clock.wall() + 1_000_000 * SECOND
        while self.do(self.ledger.prune(before, before, 3)):
            pass
        self.jobs = {i: m for i, m in self.jobs.items() if not (m.state in FINAL and m.disposed)}

    @rule(reboot=st.booleans(), killed=st.booleans())
    def restart(self, reboot: bool, killed: bool) -> None:
        old = self.ledger
        if not killed:
            self.do(old.close())
        if reboot:
            self.boot += 1
            for model in self.jobs.values():
                if model.state is S.DEFERRED:
                    model.due_ns = self.clock.boottime_ns + model.delay_ns
        self.open()
        if killed:  # nothing was closed in time; only now is the old one's thread let go
            self.do(old.close())
        running = [m for m in self.jobs.values() if m.state is S.RUNNING]
        assert self.do(self.ledger.interrupted()) == len(running)
        for model in running:
            model.move(S.QUEUED)
            model.interrupted += 1

    # -- what must always hold ---------------------------------------------------------------
    @invariant()
    def every_job_is_as_believed(self) -> None:
        rows = {row.id: row for row in self.do(self.ledger.jobs(None, 10_000))}
        assert rows.keys() == self.jobs.keys()
        for job, model in self.jobs.items():
            row = rows[job]
            seen = (row.state, row.token, row.attempt, row.failures, row.interrupted, row.disposed)
            believed = (
                model.state, model.token, model.attempt, model.failures, model.interrupted,
                model.disposed,
            )  # fmt: skip
            assert seen == believed
            assert len(self.do(self.ledger.attempts(job))) == model.ended

    @invariant()
    def the_counts_are_the_rows(self) -> None:
        execute = self.ledger._store.connection.execute
        rows: Any = execute("SELECT state, count(*) FROM job GROUP BY state").fetchall()
        counted = dict(rows)
        tally: Any = execute("SELECT state, jobs FROM tally WHERE jobs > 0").fetchall()
        assert dict(tally) == counted
        counts = self.do(self.ledger.counts())
        for state in ("queued", "deferred", "running", "succeeded", "failed", "cancelled"):
            assert getattr(counts, state) == counted.get(state, 0)

    @invariant()
    def the_lists_are_the_rows(self) -> None:
        for state in S:
            rows = self.do(self.ledger.jobs(state, 10_000))
            wanted = sorted(i for i, m in self.jobs.items() if m.state is state)
            assert [row.id for row in rows] == wanted[::-1]
        waiting = {row.id for row in self.do(self.ledger.undisposed(10_000))}
        assert waiting == {i for i, m in self.jobs.items() if m.state in FINAL and not m.disposed}


LedgerMachine.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestTheLedgerAgreesWithAPlainDict = LedgerMachine.TestCase


def test_ids_of_the_model_are_in_the_order_of_arrival() -> None:
    assert [job_id(n) for n in range(300)] == sorted(job_id(n) for n in range(300))
