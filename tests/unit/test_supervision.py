"""Examples of the core's decisions that random runs do not show."""

from __future__ import annotations

import pytest

from sttd.core import commands as do
from sttd.core import events as on
from sttd.core.admission import Room, admit
from sttd.core.health import EngineState
from sttd.core.lives import how_it_ended
from sttd.core.recycling import RecyclePolicy
from sttd.core.retry import FailureKind, RetryPolicy
from sttd.core.throttle import BAR_MOST_S, DEGRADED_AFTER
from sttd.core.workers import WorkerState
from tests.support.world import MIB, World, policies


def started(**changes: object) -> World:
    world = World(policies(**changes))
    world.tick()
    world.settle()
    return world


def test_the_standby_is_ready_before_a_worker_retires() -> None:
    world = started(workers=1, recycle=RecyclePolicy(max_requests=1, max_requests_jitter=0))
    world.submit(2)
    world.settle()
    (first,) = world.jobs
    world.done(first)
    assert world.dying == {first: "leave"}
    world.settle(bury=False)
    assert len(world.jobs) == 1, "the next job runs although the old worker has not yet gone"


def test_without_a_standby_the_replacement_is_made_before_the_old_one_leaves() -> None:
    world = started(
        workers=1, standby=0, recycle=RecyclePolicy(max_requests=1, max_requests_jitter=0)
    )
    world.submit(2)
    world.settle()
    (first,) = world.jobs
    world.done(first)
    assert not world.dying
    assert len(world.alive) == 2
    world.settle(bury=False)
    assert first in world.dying
    assert len(world.jobs) == 1


def test_workers_that_are_due_work_on_while_every_replacement_dies_at_its_start() -> None:
    world = started()
    old = set(world.alive)
    world.feed(
        on.Reconfigured(
            recycle=world.settings.recycle,
            retry=world.settings.retry,
            workers=2,
            standby=1,
            engine_changed=True,
        )
    )
    standby = next(staff.id for staff in world.core.staff.in_state(WorkerState.STANDBY))
    world.tick()
    world.template_ready()
    world.bury(standby)
    old.remove(standby)
    for _ in range(100):
        for worker in set(world.alive) - old:
            world.die(worker)  # before it is ready
        world.tick()
    assert world.state() == "degraded"
    assert set(world.alive) == old
    world.submit()
    world.answer_claim()
    (worker,) = world.jobs
    assert worker in old
    world.done(worker)
    world.tick()
    assert world.state() == "degraded", "that an old one can work says nothing of the new"
    assert not world.names("daemon.recovered")
    world.tick(BAR_MOST_S)
    world.settle()
    world.tick()
    assert not set(world.alive) & old, "once new ones live, the old ones leave"
    assert world.state() == "running"


def test_workers_that_are_too_many_make_room_for_the_replacement_of_an_elder_one() -> None:
    """Else the elder waits for room, they wait behind it, and no job runs ever again."""
    world = started(workers=4, standby=1)
    world.submit(4)
    world.settle()
    busy = list(world.jobs)
    assert len(busy) == 4
    world.feed(on.ScaleRequested(2))
    world.feed(on.RecycleRequested(None))  # the standby, too
    world.settle()
    for worker in busy:
        world.done(worker)
    world.submit()
    for _ in range(3):
        world.tick()
        world.settle()
    assert world.jobs
    assert not set(world.alive) & set(busy)


def test_a_new_configuration_is_tried_at_once_however_long_the_bars_of_the_old_are() -> None:
    world = World(policies(workers=1, standby=0))
    world.tick()
    world.template_ready()
    for _ in range(1000):
        for worker in list(world.alive):
            world.die(worker)
        world.tick(0.1)
    world.feed(
        on.Reconfigured(
            recycle=world.settings.recycle,
            retry=world.settings.retry,
            workers=1,
            standby=0,
            engine_changed=True,
        )
    )
    world.tick(0.01)
    world.template_ready()
    assert world.alive


def test_workers_that_die_before_they_are_ready_are_not_restarted_in_a_spin() -> None:
    world = World(policies(workers=1, standby=0))
    world.tick()
    world.template_ready()
    forks = 0
    for _ in range(600):
        for worker in list(world.alive):
            forks += 1
            world.die(worker)
        world.tick(0.1)
    assert forks < 15, "in a minute"
    assert world.state() == "degraded"
    assert any("died" in reason for reason in world.core.troubles.values())
    for _ in range(int(BAR_MOST_S * 20)):
        world.tick(0.1)
        if world.alive:
            break
    world.submit()
    world.settle()
    world.done(next(iter(world.jobs)))
    world.tick()
    assert world.state() == "running"
    assert world.names("daemon.recovered")


def test_a_fresh_worker_over_the_soft_line_does_not_make_the_pool_spin() -> None:
    world = started(workers=1, standby=0)
    forks = 0
    for _ in range(300):
        world.settle()
        for worker in list(world.alive):
            if world.rss.get(worker) is None:
                forks += 1
                world.sample(worker, 400)
        world.tick(0.1)
    assert forks < 15
    assert world.state() == "degraded"


def test_a_worker_that_grows_over_the_ceiling_before_it_is_ready_is_killed() -> None:
    world = World()
    world.tick()
    world.template_ready()
    worker = next(iter(world.alive))
    world.forked(worker)
    world.sample(worker, 513)
    assert world.dying[worker] == "kill"
    world.bury(worker)
    assert world.core.staff.recycles["rss_ceiling"] == 1


def test_an_idle_daemon_recovers_once_its_pool_has_stood_for_a_while() -> None:
    world = started()
    for _ in range(DEGRADED_AFTER):
        world.die(next(iter(world.alive)))
        world.settle()
    world.tick()
    assert world.state() == "degraded"
    world.tick(BAR_MOST_S + 10)
    world.settle()
    world.tick(BAR_MOST_S + 10)
    assert world.state() == "running"
    assert world.names("daemon.recovered")


@pytest.mark.parametrize("poison", [1, 2, 3])
def test_jobs_that_wait_for_a_fresh_worker_hold_up_nobody_else(poison: int) -> None:
    world = started(workers=2, standby=0)
    world.submit(2)
    world.settle()
    for worker in list(world.jobs):
        world.done(worker)
    world.settle()
    world.feed(on.TemplateExited(world.template or 0, "killed"))  # and another takes its time
    world.template = None
    world.submit(poison, crashes=1)
    world.submit(4)
    for _ in range(30):
        while world.claims:
            world.answer_claim()
        for worker in list(world.jobs):
            world.done(worker)
        for job in list(world.publishing):
            world.published(job)
        world.tick()
    assert len(world.succeeded) == 2 + 4


def test_a_single_crash_of_a_worker_that_worked_costs_no_delay() -> None:
    world = started()
    world.submit(3)
    world.settle()
    world.done(next(iter(world.jobs)))
    world.settle()
    world.die(next(iter(world.jobs)))
    world.settle()
    assert len(world.alive) == 3
    assert DEGRADED_AFTER > 1
    assert world.state() == "running"


def test_a_job_that_crashed_goes_to_a_fresh_worker_and_a_used_one_makes_way() -> None:
    world = started(recycle=RecyclePolicy(max_requests=50, max_requests_jitter=0))
    for _ in range(4):
        world.submit(2)
        world.settle()
        for worker in list(world.jobs):
            world.done(worker)
        world.settle()
    world.submit(1, crashes=1)
    world.settle()
    (worker,) = world.jobs
    assert world.served.get(worker, 0) == 0
    assert world.core.staff.recycles["predicted"] == 1


@pytest.mark.parametrize(
    ("reason", "code", "signal", "words"),
    [
        ("crashed", None, 11, "died by signal 11 (SIGSEGV)"),
        ("crashed", None, 40, "died by signal 40"),  # a real-time signal has no name
        ("crashed", 3, None, "exited with code 3"),
        ("rss_ceiling", None, 9, "grew past 512 MiB (recycle.rss_ceiling), was killed"),
        ("stalled", None, 9, "made no progress for 60 s, was killed"),
        ("job_timeout", None, 9, "worked for longer than recycle.job_timeout allows, was killed"),
        ("requested", 0, None, "was ended: requested"),
    ],
)
def test_a_jobs_error_says_in_words_and_figures_how_its_worker_ended(
    reason: str, code: int | None, signal: int | None, words: str
) -> None:
    assert how_it_ended(RecyclePolicy(), reason, code, signal) == words


def test_a_sample_over_the_ceiling_kills_at_once_and_requeues_the_job() -> None:
    world = started(retry=RetryPolicy(backoff=0))
    world.submit()
    world.settle()
    (worker,) = world.jobs
    job = world.jobs[worker].id
    world.sample(worker, 513)
    assert world.dying[worker] == "kill"
    world.bury(worker)
    assert [j.id for j in world.queue] == [job] or world.claims
    assert world.core.staff.recycles["rss_ceiling"] == 1


def test_a_job_timeout_and_a_stall_are_told_apart() -> None:
    world = started(recycle=RecyclePolicy(job_timeout=5, stall_timeout=3))
    world.submit(2)
    world.settle()
    silent, steady = world.jobs
    for n in range(12):
        job = world.jobs[steady]
        world.feed(
            on.Progressed(
                worker=steady,
                job=job.id,
                attempt=job.attempt,
                token=job.token,
                position_s=float(n),
                segments=0,
                duration_s=None,
            )
        )
        world.tick(0.5)
    reasons = {c.worker: c.reason for c in world.commands if isinstance(c, do.Kill | do.Examine)}
    assert reasons == {silent: "stalled", steady: "job_timeout"}


def test_a_recording_that_is_far_longer_than_its_header_says_gets_the_time_it_needs() -> None:
    world = started(recycle=RecyclePolicy(stall_timeout=60))
    world.submit()
    world.settle()
    (worker,) = world.jobs
    job = world.jobs[worker]
    for n in range(180):  # half an hour at twice real time
        world.feed(
            on.Progressed(
                worker=worker,
                job=job.id,
                attempt=job.attempt,
                token=job.token,
                position_s=20.0 * n,
                segments=0,
                duration_s=87.0,
            )
        )
        world.tick(10.0)
    assert worker not in world.dying


def test_a_worker_that_ignores_its_order_to_leave_is_killed_after_its_grace() -> None:
    world = started(recycle=RecyclePolicy(grace=2))
    world.feed(on.RecycleRequested(None))
    told = [w for w, how in world.dying.items() if how == "leave"]
    assert told
    world.tick(1.9)
    assert world.dying[told[0]] == "leave"
    world.tick(0.2)
    assert world.dying[told[0]] == "kill"


def test_job_progress_is_announced_at_most_once_a_second() -> None:
    world = started()
    world.submit()
    world.settle()
    (worker,) = world.jobs
    job = world.jobs[worker]
    for n in range(100):
        world.now += 0.1
        world.feed(
            on.Progressed(
                worker=worker,
                job=job.id,
                attempt=job.attempt,
                token=job.token,
                position_s=float(n),
                segments=0,
                duration_s=100.0,
            )
        )
    assert 9 <= len(world.names("job.progress")) <= 11


def test_an_unavailable_engine_holds_all_jobs_and_fails_none() -> None:
    world = started(retry=RetryPolicy(backoff_max=10))
    world.submit(5)
    world.settle()
    for worker in list(world.jobs):
        world.fail(worker, FailureKind.UNAVAILABLE)
    world.settle()
    assert not world.jobs
    for _ in range(40):
        world.tick(0.5)
        world.settle()
        assert len(world.jobs) <= 1, "one probe at a time"
        for worker in list(world.jobs):
            world.fail(worker, FailureKind.UNAVAILABLE)
    assert not world.failed
    assert len(world.queue) + len(world.jobs) == 5


def spoke(world: World, worker: str, segments: int = 1) -> None:
    """It has committed so many segments."""
    job = world.jobs[worker]
    world.feed(
        on.Progressed(
            worker=worker,
            job=job.id,
            attempt=job.attempt,
            token=job.token,
            position_s=float(segments),
            segments=segments,
            duration_s=7200.0,
        )
    )


def test_a_long_recording_that_goes_on_keeps_no_probe_from_going_out() -> None:
    world = started()
    world.submit(4)
    world.settle()
    long, other = world.jobs
    world.fail(other, FailureKind.UNAVAILABLE)
    world.settle()
    assert list(world.jobs) == [long]
    world.tick(1.1)
    assert [c for c in world.commands if isinstance(c, do.Claim)][-1] == do.Claim(1, probe=True)
    world.settle()
    assert set(world.jobs) == {long, other}
    spoke(world, long)
    assert world.core.health.state is EngineState.UNAVAILABLE, "its door was opened before"


def test_a_probe_that_is_understood_opens_the_gate_before_its_end() -> None:
    world = started()
    world.submit(4)
    world.settle()
    for worker in list(world.jobs):
        world.fail(worker, FailureKind.UNAVAILABLE)
    world.tick(1.1)
    world.settle()
    (probe,) = world.jobs

    spoke(world, probe)
    world.settle()

    assert world.core.health.state is EngineState.OK
    assert len(world.jobs) == 2


@pytest.mark.parametrize(("before", "after", "running"), [(1, 2, 2), (2, 1, 1)])
def test_a_reload_changes_how_many_sessions_there_may_be(
    before: int, after: int, running: int
) -> None:
    world = started(max_sessions=before)
    world.feed(
        on.Reconfigured(
            recycle=world.settings.recycle,
            retry=world.settings.retry,
            workers=None,
            standby=1,
            engine_changed=False,
            max_sessions=after,
        )
    )
    world.submit(4)
    world.settle()
    assert len(world.jobs) == running
    assert world.core.health.ceiling() == after


def test_a_new_engine_rolls_every_worker_and_a_restarted_template_none() -> None:
    world = started()
    first = set(world.alive)
    world.feed(on.TemplateExited(world.template or 0, "killed"))
    world.tick()
    world.settle()
    assert set(world.alive) == first
    world.feed(
        on.Reconfigured(
            recycle=world.settings.recycle,
            retry=world.settings.retry,
            workers=2,
            standby=1,
            engine_changed=True,
        )
    )
    for _ in range(20):
        world.tick()
        world.settle()
    assert not set(world.alive) & first
    assert world.core.staff.recycles["reloaded"] == 3


def test_a_reload_changes_after_how_many_jobs_the_workers_that_live_are_replaced() -> None:
    world = started(workers=1, recycle=RecyclePolicy(max_requests=50, max_requests_jitter=0))
    (worker,) = (w.id for w in world.core.staff.free())
    recycle = RecyclePolicy(max_requests=2, max_requests_jitter=0)
    world.feed(
        on.Reconfigured(
            recycle=recycle,
            retry=world.settings.retry,
            workers=1,
            standby=1,
            engine_changed=False,
        )
    )
    for _ in range(2):
        world.submit()
        world.settle()
        world.done(worker)
        world.settle()
    assert world.core.staff.recycles == {"max_requests": 1}


def test_a_stop_waits_for_running_jobs_and_for_no_longer_than_drain_timeout() -> None:
    world = started(recycle=RecyclePolicy(drain_timeout=100, stall_timeout=0))
    world.submit(3)
    world.settle()
    world.feed(on.StopRequested(now=False))
    world.settle()
    assert len(world.jobs) == 2
    assert not world.names_of(do.Exit)
    world.tick(101)
    world.settle()
    assert world.exited
    assert len(world.queue) == 3


@pytest.mark.parametrize(
    ("available", "budget", "jobs"),
    [
        (8000, 8000, 4),  # room for all
        (8000, 1100, 2),  # the budget holds two ceilings
        (8000, 100, 1),  # a budget below one ceiling still lets one run
        (1300, 8000, 2),  # the machine has room for two
        (100, 8000, 0),  # the machine has no room
    ],
)
def test_no_more_jobs_run_than_there_is_memory_for(available: int, budget: int, jobs: int) -> None:
    room = Room(available=available * MIB, budget=budget * MIB)
    admission = admit(room, workers=4, ceiling=512 * MIB, grown=0)
    assert admission.jobs == jobs
    assert bool(admission.reason) == (jobs < 4)


def test_a_job_that_would_cross_the_ceiling_on_a_grown_worker_goes_to_a_fresh_one() -> None:
    lines = RecyclePolicy(max_requests=0, rss_soft=0, rss_ceiling=200 * MIB)
    world = started(workers=1, recycle=lines)
    for n in range(1, 12):
        world.submit()
        world.settle()
        (worker,) = world.jobs
        world.done(worker, 20 + 25 * n if world.served.get(worker, 0) else 45)
        world.settle()
        if world.core.staff.recycles["predicted"]:
            break
    assert world.core.staff.recycles["predicted"] == 1
    assert world.core.staff.recycles["rss_ceiling"] == 0


def test_every_life_is_recorded_with_its_cause_and_how_long_its_place_was_empty() -> None:
    world = started(workers=1, recycle=RecyclePolicy(max_requests=1, max_requests_jitter=0))
    world.submit()
    world.settle()
    (worker,) = world.jobs
    world.done(worker)
    world.now += 0.5
    world.settle()
    (life,) = world.buried
    assert (life.worker, life.cause, life.decider, life.jobs) == (
        worker,
        "max_requests",
        "policy",
        1,
    )
    assert life.kill_latency_s == pytest.approx(0.5)
    assert life.replacement_latency_s == 0, "the standby took its place at once"


def test_a_place_without_a_standby_is_empty_until_another_worker_is_ready() -> None:
    world = started(workers=1, standby=0, retry=RetryPolicy(backoff=0))
    world.submit()
    world.settle()
    (worker,) = world.jobs
    world.die(worker)
    world.now += 0.25
    world.tick(0.5)
    world.settle()
    (life,) = world.buried
    assert (life.cause, life.decider) == ("crashed", "kernel")
    assert life.replacement_latency_s == pytest.approx(0.75)


def test_workers_that_grow_old_unused_are_replaced_without_alarm() -> None:
    world = started(recycle=RecyclePolicy(max_age=3600))
    first = set(world.alive)
    for _ in range(50):
        world.now += 3600  # nobody has a deadline
        world.tick(1)
        world.settle()
    assert not first & set(world.alive)
    assert world.state() == "running"


def test_a_worker_that_never_says_its_first_word_is_ended() -> None:
    world = World(policies(workers=1, standby=0))
    world.tick()
    world.template_ready()
    (worker,) = world.alive
    world.forked(worker)
    world.tick(301)
    assert world.dying[worker] == "kill"


@pytest.mark.parametrize(("pressure", "jobs"), [(5.0, 4), (25.0, 2), (60.0, 1)])
def test_under_memory_pressure_fewer_jobs_run_and_the_figure_is_named(
    pressure: float, jobs: int
) -> None:
    room = Room(available=8000 * MIB, budget=8000 * MIB, pressure=pressure)
    admission = admit(room, workers=4, ceiling=512 * MIB, grown=0)
    assert admission.jobs == jobs
    assert (f"{pressure:.0f} %" in admission.reason) == (jobs < 4)


def test_a_daemon_that_was_stopped_with_its_workers_blames_nobody_for_the_time() -> None:
    """As after a frozen control group or a paused machine: CLOCK_MONOTONIC went on."""
    world = World(policies(recycle=RecyclePolicy(stall_timeout=5, job_timeout=60, grace=3)))
    world.settle()
    world.submit(2)
    world.settle()
    first, second = sorted(world.jobs)
    world.feed(on.CancelRequested(world.jobs[second].id))  # has begun to leave
    world.now += 3600.0
    world.sample(first, 50)
    world.feed(on.Tick())
    assert world.names_of(do.Kill) == world.names_of(do.Examine) == []
    world.tick(2.9)
    assert world.names_of(do.Kill) == []
    world.tick(2.2)  # but who still says nothing has had its time
    assert world.dying == {first: "kill", second: "kill"}


def test_ticks_may_be_rare_while_nobody_comes_or_goes() -> None:
    world = World(policies())

    def calm() -> bool:
        return world.core.calm

    assert not calm()  # nobody is there yet
    world.settle()
    world.submit(1)
    world.settle()
    [worker] = world.jobs
    assert calm()  # working is calm; samples and news come by themselves
    world.feed(on.RecycleRequested(worker))
    world.tick()
    assert not calm()  # it is to go when its job is done
    world.done(worker)
    world.settle()
    world.feed(on.TroubleChanged("disk", "full"))
    assert not calm()
    world.feed(on.TroubleChanged("disk", None))
    world.feed(on.DrainRequested())
    assert not calm()


def test_the_next_job_is_asked_for_while_the_outputs_of_the_last_are_written() -> None:
    world = World(policies(workers=1))
    world.settle()
    world.submit(3)
    world.settle()
    [worker] = world.jobs
    assert not world.claims
    world.writes(worker)
    assert list(world.claims) == [1]
    world.answer_claim()
    assert len(world.jobs) == 1  # it waits in hand
    world.writes(worker)
    assert not world.claims  # and one is enough
    world.done(worker)
    assert len(world.jobs) == 1  # given out at once, without asking the ledger
    assert not world.claims


def test_a_job_asked_for_ahead_does_not_run_beside_the_one_that_is_being_written() -> None:
    """Where memory admits a single job, a second worker that is free does not count."""
    world = World(policies(workers=2))
    world.settle()
    world.feed(on.RoomSampled(available=700 * MIB, budget=512 * MIB, pressure=0.0))
    world.tick()
    world.submit(2)
    world.settle()
    [worker] = world.jobs
    world.writes(worker)
    world.settle()
    assert list(world.jobs) == [worker]
    world.done(worker)
    world.settle()
    assert len(world.jobs) == 1


def test_a_worker_that_is_due_asks_for_no_further_job_while_it_writes() -> None:
    world = World(policies(workers=1))
    world.settle()
    world.submit(2)
    world.settle()
    [worker] = world.jobs
    world.feed(on.RecycleRequested(worker))
    world.writes(worker)
    assert not world.claims
