"""The core against a world of workers that become ready, finish, grow, hang, die, speak late."""

from __future__ import annotations

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sttd.core import events as on
from sttd.core.recycling import RecyclePolicy
from sttd.core.retry import FailureKind, RetryPolicy
from tests.support.world import World, policies

KINDS = st.sampled_from(
    [k for k in FailureKind if k not in (FailureKind.CRASHED, FailureKind.SHUTDOWN)]
)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            policies(
                recycle=RecyclePolicy(
                    max_requests=3, max_requests_jitter=0, stall_timeout=5, grace=2, max_age=0
                ),
                retry=RetryPolicy(backoff=1, backoff_max=4),
            )
        )
        self.world.tick()
        self.world.settle()

    def _pick(self, names: list[str], index: int) -> str:
        return sorted(names)[index % len(names)]

    def _working(self) -> list[str]:
        """Workers with a job that were not told to leave; some work is found if there is none."""
        for _ in range(4):
            if working := [w for w in self.world.jobs if w not in self.world.dying]:
                return working
            if not self.world.queue:
                self.world.submit(2)
            self.world.settle()
            self.world.tick(2.0)
        return []

    @rule(count=st.integers(1, 4))
    def jobs_arrive(self, count: int) -> None:
        self.world.submit(count)

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def the_world_settles(self) -> None:
        self.world.settle()

    @precondition(lambda self: self.world.claims)
    @rule()
    def the_ledger_answers(self) -> None:
        self.world.answer_claim()

    @precondition(lambda self: self.world.claims)
    @rule()
    def the_ledger_is_full(self) -> None:
        self.world.claims.popleft()
        self.world.feed(on.ClaimFailed("disk full"))

    @rule(index=st.integers(0, 9), mib=st.sampled_from([50, 50, 50, 400]))
    def a_job_is_done(self, index: int, mib: int) -> None:
        if working := self._working():
            event(f"done at {mib} MiB")
            self.world.done(self._pick(working, index), mib)

    @rule(index=st.integers(0, 9))
    def a_worker_begins_to_write(self, index: int) -> None:
        if working := self._working():
            self.world.writes(self._pick(working, index))

    @rule(index=st.integers(0, 9), kind=KINDS, segments=st.integers(0, 1))
    def a_job_fails(self, index: int, kind: FailureKind, segments: int) -> None:
        if working := self._working():
            event(f"fails: {kind}")
            self.world.fail(self._pick(working, index), kind, segments)

    @rule(index=st.integers(0, 9))
    def a_busy_worker_crashes(self, index: int) -> None:
        if working := self._working():
            event("crash while busy")
            self.world.die(self._pick(working, index))

    @precondition(lambda self: self.world.alive)
    @rule(index=st.integers(0, 9))
    def a_worker_crashes(self, index: int) -> None:
        worker = self._pick(list(self.world.alive), index)
        event(f"crash while {self.world.alive[worker]}")
        self.world.die(worker)

    @precondition(lambda self: self.world.dying)
    @rule(index=st.integers(0, 9))
    def a_leaving_worker_is_gone(self, index: int) -> None:
        self.world.bury(self._pick(list(self.world.dying), index))

    @rule(index=st.integers(0, 9), mib=st.sampled_from([100, 400, 600]))
    def a_busy_worker_grows(self, index: int, mib: int) -> None:
        working = self._working()
        if not working:
            return
        worker = self._pick(working, index)
        event(f"busy at {mib} MiB")
        self.world.sample(worker, mib)
        if mib > 512:
            assert self.world.dying.get(worker) == "kill", "nobody over the ceiling is left alone"

    @precondition(lambda self: self.world.alive)
    @rule(index=st.integers(0, 9))
    def somebody_speaks_from_the_grave(self, index: int) -> None:
        worker = self._pick(list(self.world.alive), index)
        before = len(self.world.commands)
        self.world.feed(
            on.JobDone(
                worker=worker,
                job="j1",
                attempt=99,
                token="late",
                duration_s=1,
                segments=0,
                rss_before=0,
                rss_after=0,
            )
        )
        names = [type(c).__name__ for c in self.world.commands[before:]]
        assert "Publish" not in names

    @rule(seconds=st.sampled_from([0.3, 6.0]))
    def the_operator_drains_and_resumes(self, seconds: float) -> None:
        self.world.feed(on.DrainRequested())
        self.world.submit(1)
        self.world.tick(seconds)
        self.world.settle()
        if not self.world.jobs:
            assert self.world.core.state == "drained"
        self.world.feed(on.ResumeRequested())

    @rule()
    def the_operator_recycles_all(self) -> None:
        self.world.feed(on.RecycleRequested(None))

    @rule(workers=st.integers(1, 3))
    def the_operator_scales(self, workers: int) -> None:
        self.world.feed(on.ScaleRequested(workers))

    @precondition(lambda self: self.world.jobs)
    @rule(index=st.integers(0, 9))
    def the_operator_cancels(self, index: int) -> None:
        worker = self._pick(list(self.world.jobs), index)
        self.world.feed(on.CancelRequested(self.world.jobs[worker].id))

    @rule()
    def the_template_dies(self) -> None:
        if self.world.template is not None and not self.world.starting_templates:
            epoch, self.world.template = self.world.template, None
            self.world.feed(on.TemplateExited(epoch, "killed"))

    @invariant()
    def no_job_is_lost_or_doubled(self) -> None:
        places = self.world.places()
        assert sorted(places) == sorted(f"j{n + 1}" for n in range(self.world.submitted))

    @invariant()
    def never_more_than_one_process_beyond_workers_and_standby(self) -> None:
        most = 3 + self.world.settings.standby + 1  # scaled to 3 at most
        assert len(self.world.alive) <= most

    def teardown(self) -> None:
        """Left alone, everything is worked off."""
        world = self.world
        world.feed(on.ScaleRequested(2))
        world.feed(on.ResumeRequested())
        for _ in range(400):
            world.settle()
            for worker in list(world.jobs):
                if worker not in world.dying:
                    world.done(worker)
            world.tick(2.0)
            if not (
                world.queue
                or world.delayed
                or world.jobs
                or world.publishing
                or world.claims
                or world.core.work.hand
            ):
                break
        ended = [*world.succeeded, *world.failed, *world.cancelled]
        assert sorted(ended) == sorted(f"j{n + 1}" for n in range(world.submitted))
        world.feed(on.StopRequested(now=False))
        for _ in range(10):
            world.settle()
            world.tick(1.0)
        assert world.exited


TestSupervision = Machine.TestCase
TestSupervision.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
