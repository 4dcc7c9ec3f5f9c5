"""Which jobs are said to fit into no fresh worker, and how sure that must be."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sttd.core import commands as do
from sttd.core import events as on
from sttd.core.fitting import TOO_LARGE, too_large
from sttd.core.growth import SURE, Growth
from sttd.core.jobs import Job
from sttd.core.recycling import RecyclePolicy, Vitals
from sttd.core.retry import RetryPolicy
from tests.support.world import MIB, World, policies

PER_MINUTE = 10 * MIB
CEILING = 200 * MIB
FRESH = 40 * MIB


def learnt(count: int = 20, per_minute: int = PER_MINUTE, noise: int = 0) -> Growth:
    growth = Growth()
    dice = random.Random(count)
    for n in range(count):
        minutes = 0.5 + n % 10
        growth.add(60 * minutes, int(per_minute * minutes) + dice.randint(-noise, noise))
    return growth


minutes = st.floats(0.1, 90, allow_nan=False)


@given(minutes)
def test_a_job_is_refused_exactly_when_the_line_of_its_like_crosses_the_ceiling(m: float) -> None:
    found = too_large(learnt(), 60 * m, fresh=FRESH, ceiling=CEILING)
    assert (found is not None) == (FRESH + int(PER_MINUTE * m) > CEILING)


@given(minutes, st.integers(0, SURE - 1))
def test_too_few_jobs_are_no_ground_for_refusing_any(m: float, count: int) -> None:
    assert too_large(learnt(count), 60 * m, fresh=FRESH, ceiling=CEILING) is None


@given(st.lists(st.tuples(st.floats(0, 600), st.integers(-(1 << 30), 1 << 30)), max_size=40))
def test_what_is_certain_is_never_more_than_the_worst_that_was_seen_prolonged(
    jobs: list[tuple[float, int]],
) -> None:
    growth = Growth()
    for duration_s, grown in jobs:
        growth.add(duration_s, grown)
    least = growth.at_least(60.0)
    if least is not None:
        slopes = growth._slopes()
        worst = max(0.0, *slopes) if slopes else 0.0
        assert least <= max(0, max(grown for _, grown in jobs) + worst)


@given(minutes, minutes)
def test_a_longer_recording_never_takes_less(one: float, other: float) -> None:
    growth = learnt(noise=20 * MIB)
    short, long = (growth.at_least(60 * m) for m in sorted((one, other)))
    assert short is None or long is None or short <= long


def test_memory_that_has_nothing_to_do_with_length_refuses_nobody() -> None:
    """A spike in every job, of any size: an hour is no worse than a minute."""
    wrong = 0
    for seed in range(400):
        dice, growth = random.Random(seed), Growth()
        for _ in range(dice.randint(SURE, 32)):
            growth.add(dice.uniform(10, 600), dice.randint(0, 140 * MIB))
        wrong += too_large(growth, 3600, fresh=FRESH, ceiling=CEILING) is not None
    assert wrong <= 8  # of 400: a line prolonged sixfold, tilted by chance


def test_a_line_is_not_prolonged_beyond_ten_times_the_longest_recording_seen() -> None:
    growth = learnt()  # up to 9.5 minutes
    assert growth.at_least(94 * 60) is not None
    assert growth.at_least(96 * 60) is None


# -- in the daemon's mind ----------------------------------------------------------------------
class Grown(World):
    """Workers are 40 MiB when they are ready, and a job takes 10 MiB for each minute of audio."""

    def ready(self, worker: str) -> None:
        self.sample(worker, FRESH // MIB)
        super().ready(worker)

    def runs(self, duration_s: float) -> None:
        """A job of that length arrives, runs and is done; its worker trims all of it away."""
        self.submit()
        self.settle()
        worker, job = next(iter(self.jobs.items()))
        self.jobs.pop(worker)
        self.publishing[job.id] = job
        self.served[worker] = self.served.get(worker, 0) + 1
        peak = FRESH + int(PER_MINUTE * duration_s / 60)
        self.feed(on.Sampled(worker, Vitals(rss_bytes=peak)))
        self.feed(on.Sampled(worker, Vitals(rss_bytes=FRESH)))
        self.feed(
            on.JobDone(
                worker=worker,
                job=job.id,
                attempt=job.attempt,
                token=job.token,
                duration_s=duration_s,
                segments=1,
                rss_before=FRESH,
                rss_after=FRESH,
            )
        )
        self.settle()

    def crosses(self, duration_s: float, segments: int = 0) -> None:
        """The job on the only busy worker tells its length and then crosses the ceiling."""
        ((worker, job),) = self.jobs.items()
        self.feed(
            on.Progressed(
                worker=worker,
                job=job.id,
                attempt=job.attempt,
                token=job.token,
                position_s=1.0,
                segments=segments,
                duration_s=duration_s,
            )
        )
        self.sample(worker, CEILING // MIB + 1)
        self.settle()


def grown(**changes: object) -> Grown:
    recycle = RecyclePolicy(max_requests=0, max_age=0, rss_soft=0, rss_ceiling=CEILING)
    retry = RetryPolicy(backoff=0, max_crashes=4)
    world = Grown(policies(workers=1, **{"recycle": recycle, "retry": retry, **changes}))
    world.tick()
    world.settle()
    return world


def test_a_job_that_no_fresh_worker_could_hold_is_tried_once_and_fails_with_the_figures() -> None:
    world = grown()
    for n in range(12):
        world.runs(60.0 + 30 * n)
    world.submit()
    world.settle()
    world.crosses(3000.0)
    (given_up,) = world.failed.values()
    assert given_up.code == given_up.attempt_code == TOO_LARGE
    assert given_up.job.attempt == 1
    for figure in (
        "50 min",
        "540 MiB",
        "40 MiB of a fresh",
        "500 MiB for itself",
        "10.0 MiB for each",
        "200 MiB",
    ):
        assert figure in given_up.message
    assert "raise recycle.rss_ceiling or split" in given_up.message


def test_a_job_whose_length_is_known_fails_before_it_kills_a_worker() -> None:
    world = grown()
    for n in range(12):
        world.runs(60.0 + 30 * n)
    before = len(world.names_of(do.Kill))
    world.feed(on.JobsWaiting())
    world.claims.clear()
    job = Job(id="long", name="l", out_name="l", token="t", attempt=1, duration_s=3000.0)
    world.feed(on.Claimed((job,)))
    assert world.failed["long"].code == TOO_LARGE
    assert len(world.names_of(do.Kill)) == before


def test_without_evidence_a_job_at_the_ceiling_is_tried_again() -> None:
    world = grown()
    for _ in range(12):
        world.runs(120.0)  # all of one length: no slope
    world.submit()
    world.settle()
    world.crosses(3000.0)
    assert not world.failed
    assert len(world.jobs) == 1, "on a fresh worker"


def test_a_job_that_gets_through_in_parts_goes_on_behind_its_last_segment() -> None:
    world = grown()
    for n in range(12):
        world.runs(60.0 + 30 * n)
    world.submit()
    world.settle()
    world.crosses(3000.0, segments=5)
    assert not world.failed
    assert next(iter(world.jobs.values())).segments == 5
    restarting = grown(resumes=False)
    for n in range(12):
        restarting.runs(60.0 + 30 * n)
    restarting.submit()
    restarting.settle()
    restarting.crosses(3000.0, segments=5)
    assert [how.code for how in restarting.failed.values()] == [TOO_LARGE]


def test_another_engine_is_not_judged_by_what_the_last_one_took() -> None:
    world = grown()
    for n in range(12):
        world.runs(60.0 + 30 * n)
    now = world.core.policies
    world.feed(
        on.Reconfigured(
            recycle=now.recycle,
            retry=now.retry,
            workers=None,
            standby=1,
            engine_changed=True,
            resumes=True,
        )
    )
    world.settle()
    world.submit()
    world.settle()
    world.crosses(3000.0)
    assert not world.failed


def test_jobs_that_need_much_for_a_while_go_to_a_worker_with_room_for_it() -> None:
    """Given back at the end, so nothing is left behind: the peak decides, not what remains."""
    world = grown()
    for _ in range(12):
        world.runs(600.0)
    assert not world.core.staff.recycles
    (worker,) = (w for w, n in world.served.items() if n)
    world.sample(worker, 120)
    world.submit()
    world.settle()
    assert world.core.staff.recycles["predicted"] == 1
    (fresh,) = world.jobs
    assert not world.served.get(fresh)
