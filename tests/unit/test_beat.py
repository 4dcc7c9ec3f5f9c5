"""When those who look now and then look next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sttd.supervisor.beat import next_beat

NOW = st.floats(0.0, 1e8)
EVERY = st.sampled_from([0.01, 0.05, 0.25, 1.0, 5.0])


@given(NOW, EVERY)
def test_the_next_beat_is_ahead_and_no_further_than_one(now: float, every: float) -> None:
    beat = next_beat(now, every)

    assert now - 1e-6 <= beat <= now + every * 1.001


@given(NOW, NOW, EVERY)
def test_whoever_waits_for_the_same_beat_wakes_at_the_same_moment(
    one: float, other: float, every: float
) -> None:
    first, second = next_beat(one, every), next_beat(other, every)

    assert first == second or abs(first - second) >= every * 0.99


def test_a_slower_beat_is_one_of_the_faster() -> None:
    assert next_beat(7.3, 1.0) == 8.0
    assert next_beat(7.8, 0.25) == 8.0


def test_a_timer_that_fires_a_moment_early_has_had_its_beat() -> None:
    assert next_beat(8.0, 0.25) == 8.25
    assert next_beat(8.0 - 1e-9, 0.25) == 8.25
