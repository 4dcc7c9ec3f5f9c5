"""When a file counts as left alone."""

from __future__ import annotations

import itertools

from sttd.supervisor.records import Signature
from sttd.supervisor.stability import Clock, Stability

DAY_S = 86_400.0


class Clocks:
    """Two clocks set by hand."""

    def __init__(self) -> None:
        self.boottime_s = 1000.0
        self.wall_s = 1_700_000_000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.boottime_s, lambda: self.wall_s)

    def tick(self, seconds: float) -> None:
        self.boottime_s += seconds
        self.wall_s += seconds

    def file(self, age_s: float = 0.0, size: int = 10) -> Signature:
        changed = int((self.wall_s - age_s) * 1e9)
        return Signature(1, 2, size, changed, changed)


def test_a_new_file_settles_when_it_stays_the_same() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock())
    file = clocks.file()
    assert not stability.is_settled("a", file, 2.0)
    clocks.tick(1.9)
    assert not stability.is_settled("a", file, 2.0)
    clocks.tick(0.1)
    assert stability.is_settled("a", file, 2.0)


def test_every_change_begins_the_wait_anew() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock())
    for _ in range(5):
        assert not stability.is_settled("a", clocks.file(), 2.0)
        clocks.tick(1.5)
    assert stability.next_look() is not None


def test_an_old_file_needs_no_wait_on_first_sight() -> None:
    clocks = Clocks()
    assert Stability(clocks.clock()).is_settled("a", clocks.file(age_s=3.0), 2.0)


def test_a_file_from_the_future_is_observed() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock())
    file = clocks.file(age_s=-DAY_S)
    assert not stability.is_settled("a", file, 2.0)
    clocks.tick(2.0)
    assert stability.is_settled("a", file, 2.0)


def test_after_a_jump_of_the_wall_clock_new_files_are_observed() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock())
    fresh = clocks.file()
    for jump in (DAY_S, -DAY_S):
        clocks.wall_s += jump
        stability.check_clock()
        assert not stability.is_settled(f"new{jump}", fresh, 2.0)
    assert not stability.is_settled("a", clocks.file(age_s=100.0), 2.0)


def test_a_suspended_machine_makes_no_jump() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock())
    clocks.tick(DAY_S)  # both clocks go on while the machine sleeps
    stability.check_clock()
    assert stability.wall_is_trusted


def test_a_slow_drift_is_no_jump_but_a_step_is() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock())
    for _ in range(100):
        clocks.tick(30.0)
        clocks.wall_s += 0.015  # 500 ppm, the most that NTP slews
        stability.check_clock()
    assert stability.wall_is_trusted
    clocks.wall_s += 1.1
    stability.check_clock()
    assert not stability.wall_is_trusted


def test_the_next_look_is_when_the_first_file_may_have_settled() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock())
    stability.is_settled("a", clocks.file(), 5.0)
    stability.is_settled("b", clocks.file(), 2.0)
    assert stability.next_look() == clocks.boottime_s + 2.0
    assert list(stability.due(10)) == []
    clocks.tick(2.0)
    assert list(stability.due(10)) == ["b"]
    assert stability.next_look() == clocks.boottime_s + 3.0


def test_a_file_that_somebody_writes_is_looked_at_ever_more_seldom() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock())
    file, waits = clocks.file(), []
    for _ in range(200):
        stability.is_busy("a", file)
        due = stability.next_look()
        assert due is not None
        waits.append(due - clocks.boottime_s)
        clocks.tick(waits[-1])
        assert list(stability.due(10)) == ["a"]
    assert all(late >= early - 1e-6 for early, late in itertools.pairwise(waits))
    assert 0.005 < waits[0] < 0.02
    assert 0.9 < waits[-1] < 1.001


def test_what_a_walk_does_not_meet_is_forgotten() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock())
    stability.is_settled("a", clocks.file(), 2.0)
    stability.is_settled("b", clocks.file(), 2.0)
    stability.begin_round()
    stability.is_settled("b", clocks.file(), 2.0)
    stability.end_round()
    assert len(stability) == 1
    assert stability.next_look() is not None


def test_the_memory_is_bounded_and_what_did_not_fit_comes_later() -> None:
    clocks = Clocks()
    stability = Stability(clocks.clock(), limit=10)
    file = clocks.file()
    for number in range(100):
        assert not stability.is_settled(str(number), file, 2.0)
    assert len(stability) == 10
    clocks.tick(2.0)
    settled = [name for name in map(str, range(100)) if stability.is_settled(name, file, 2.0)]
    assert settled == [str(number) for number in range(10)]
    for name in settled:
        stability.forget(name)
    assert not stability.is_settled("50", clocks.file(), 2.0)
    assert len(stability) == 1


def test_no_wait_is_no_wait() -> None:
    clocks = Clocks()
    assert Stability(clocks.clock()).is_settled("a", clocks.file(), 0.0)
