"""Make before break within the memory budget, break before make without."""

from __future__ import annotations

from sttd.core import events as on
from sttd.core.admission import Room, admit, settled
from sttd.core.recycling import RecyclePolicy
from tests.support.world import MIB, World, policies

FRESH = 40  # MiB


class Sized(World):
    """Workers are 40 MiB when they are ready."""

    def ready(self, worker: str) -> None:
        self.sample(worker, FRESH)
        super().ready(worker)

    def budget(self, mib: int) -> None:
        self.feed(on.RoomSampled(available=64_000 * MIB, budget=mib * MIB))
        self.tick()
        self.settle()


def sized(workers: int, standby: int = 1) -> Sized:
    recycle = RecyclePolicy(
        max_requests=1, max_requests_jitter=0, max_age=0, rss_soft=0, rss_ceiling=100 * MIB
    )
    world = Sized(policies(workers=workers, standby=standby, recycle=recycle))
    world.tick()
    world.settle()
    return world


def test_a_budget_that_bears_no_standby_lets_it_go_and_breaks_before_it_makes() -> None:
    world = sized(workers=2)
    assert len(world.alive) == 3
    world.budget(200)
    assert len(world.alive) == 2
    world.submit(4)
    world.settle()
    for worker in list(world.jobs):
        world.done(worker)
    assert len(world.dying) == 1, "one at a time"
    assert len(world.alive) == 2, "nobody is forked while the old one is there"
    for leaving in list(world.dying):
        world.bury(leaving)
    assert len(world.alive) == 2
    world.settle()
    assert len(world.jobs) == 2
    told = [e for e in world.names("worker.recycled") if e.fields["reason"] == "max_requests"]
    assert len(told) == 2
    assert all(e.fields["break_before_make"] is True for e in told)
    assert world.most_alive == 3, "from before the budget was known"


def test_a_budget_that_bears_the_standby_makes_before_it_breaks() -> None:
    world = sized(workers=2)
    world.budget(240)
    world.submit(4)
    world.settle()
    for worker in list(world.jobs):
        world.done(worker)
    world.settle()
    assert len(world.jobs) == 2
    told = world.names("worker.recycled")
    assert len(told) == 2
    assert not any("break_before_make" in e.fields for e in told)


def test_with_one_worker_and_no_budget_its_place_is_empty_until_another_is_ready() -> None:
    world = sized(workers=1, standby=0)
    world.budget(100)
    world.submit(2)
    world.settle()
    (worker,) = world.jobs
    world.done(worker)
    assert list(world.alive) == [worker]
    world.now += 0.5
    world.settle()
    life = next(life for life in world.buried if life.worker == worker)
    assert life.replacement_latency_s == 0.5
    assert len(world.jobs) == 1


def test_when_the_budget_grows_somebody_stands_by_again() -> None:
    world = sized(workers=2)
    world.budget(200)
    world.budget(300)
    assert len(world.alive) == 3


def test_a_budget_counts_for_nothing_where_memory_is_not_to_limit_jobs() -> None:
    recycle = RecyclePolicy(rss_soft=0, rss_ceiling=100 * MIB)
    world = Sized(policies(workers=2, recycle=recycle, max_per_memory=False))
    world.tick()
    world.settle()
    world.budget(1)
    assert len(world.alive) == 3


def test_a_shortage_lets_no_more_jobs_be_taken_in_hand_than_one_to_be_next() -> None:
    world = sized(workers=4)
    world.feed(on.RoomSampled(available=64_000 * MIB, budget=64_000 * MIB, pressure=50.0))
    world.tick()
    world.submit(10)
    world.answer_claim()
    (worker,) = world.jobs
    for _ in range(5):
        world.writes(worker)
        while world.claims:
            world.answer_claim()
        world.tick()
    assert len(world.jobs) == 1
    assert len(world.core.work.hand) == 1


def test_a_shortage_is_told_once_and_again_only_when_more_than_its_figure_changes() -> None:
    world = sized(workers=4)
    for available in (300, 310, 290, 305):
        world.feed(on.RoomSampled(available=available * MIB, budget=64_000 * MIB))
        world.tick()
    assert len(world.names("daemon.degraded")) == 1
    assert "memory available 300 MiB" in str(world.names("daemon.degraded")[0].fields["reasons"])
    world.feed(on.RoomSampled(available=30 * MIB, budget=64_000 * MIB))
    world.tick()
    assert len(world.names("daemon.degraded")) == 2
    world.feed(on.RoomSampled(available=64_000 * MIB, budget=64_000 * MIB))
    world.tick()
    assert world.names("daemon.recovered")


def test_the_same_shortage_for_another_cause_has_other_words() -> None:
    short = admit(Room(available=10**12, budget=250 * MIB), workers=4, ceiling=100 * MIB, grown=0)
    pressed = admit(
        Room(available=10**12, budget=10**12, pressure=30.0),
        workers=4,
        ceiling=100 * MIB,
        grown=0,
    )
    assert (short.jobs, short.cause, pressed.jobs, pressed.cause) == (2, "budget", 2, "pressure")
    assert settled(pressed, short).reason == pressed.reason
    assert settled(short, short).reason == short.reason


def test_nobody_is_forked_to_stand_by_only_to_be_sent_away_when_his_size_is_known() -> None:
    world = Sized(policies(workers=1, recycle=RecyclePolicy(rss_soft=0, rss_ceiling=100 * MIB)))
    world.feed(on.RoomSampled(available=64_000 * MIB, budget=130 * MIB))
    world.tick()
    world.settle()
    world.tick()
    world.settle()
    assert len(world.alive) == 1
    assert not world.core.staff.recycles
    world.budget(150)
    assert len(world.alive) == 2
