"""The remembered curves: bounded, and true about peaks, ends and order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sttd.supervisor.history import (
    BUDGET,
    FEWEST_POINTS,
    MOST_FINISHED,
    MOST_POINTS,
    Curve,
    History,
)

SAMPLES = st.lists(
    st.tuples(st.floats(0.001, 5.0), st.integers(1 << 20, 1 << 32)), min_size=1, max_size=300
)


@given(SAMPLES, st.integers(FEWEST_POINTS, 64))
def test_a_thinned_curve_keeps_its_first_point_its_peak_and_its_order(
    samples: list[tuple[float, int]], most: int
) -> None:
    curve = Curve("w-1")
    now = 0.0
    for gap, size in samples:
        now += gap
        curve.add(now, size, most)
    assert len(curve) <= most + 1
    assert curve.times[0] == samples[0][0]
    assert max(curve.sizes) == max(size for _, size in samples)
    assert list(curve.times) == sorted(curve.times)


def test_a_finished_life_ends_with_its_last_sample_and_its_reason() -> None:
    history = History()
    for tick in range(5000):
        history.add("w-1", tick * 0.02, 1000 + tick % 7)
    history.end("w-1", "max_requests", killed=False, now=101.0)
    (curve,) = history.curves()
    assert (curve.ended, curve.killed) == ("max_requests", False)
    assert (curve.times[-1], curve.sizes[-1]) == (4999 * 0.02, 1000 + 4999 % 7)
    assert len(curve) <= MOST_POINTS + 1


def test_a_day_of_recycling_stays_within_the_budget_and_the_latest_lives_are_there() -> None:
    history = History()
    now = 0.0
    for number in range(2 * MOST_FINISHED):
        for step in range(150):
            now += 1.0
            history.add(f"w-{number}", now, step)
        history.end(f"w-{number}", "max_requests", killed=False, now=now)
    curves = list(history.curves())
    assert sum(map(len, curves)) <= BUDGET
    assert len(curves) > MOST_FINISHED // 2
    assert curves[-1].worker == f"w-{2 * MOST_FINISHED - 1}"
    assert all(curve.sizes[-1] == 149 for curve in curves)


def test_many_workers_share_the_budget() -> None:
    history = History()
    for step in range(300):
        for number in range(200):
            history.add(f"w-{number}", step * 1.0, step)
    assert sum(map(len, history.curves())) <= BUDGET


def test_the_end_of_a_worker_that_was_never_seen_is_nothing() -> None:
    history = History()
    history.end("w-1", "crashed", killed=False, now=1.0)
    assert list(history.curves()) == []
