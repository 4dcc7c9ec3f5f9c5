"""When a worker must leave, and how often it is looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.core.recycling import (
    KEEP,
    MIB,
    Keep,
    Kill,
    Life,
    RecyclePolicy,
    Retire,
    Verdict,
    Vitals,
    judge,
    next_sample_s,
)

POLICY = RecyclePolicy(
    rss_soft=100 * MIB,
    rss_ceiling=200 * MIB,
    max_age=1000,
    max_threads=50,
    max_fds=60,
    stall_timeout=10,
    job_timeout=0,
)


def life(**changes: object) -> Life:
    return Life(**{"requests": 0, "max_requests": 5, "age_s": 1.0, **changes})  # type: ignore[arg-type]  # test data


@pytest.mark.parametrize(
    ("vitals", "state", "expected"),
    [
        (Vitals(rss_bytes=50 * MIB), life(), KEEP),
        (Vitals(), life(requests=5), Retire("max_requests")),
        (Vitals(rss_bytes=101 * MIB), life(), Retire("rss_soft")),
        # while a job runs the soft line is not judged: it may give everything back
        (Vitals(rss_bytes=101 * MIB), life(busy=True), KEEP),
        (Vitals(rss_bytes=201 * MIB), life(busy=True), Kill("rss_ceiling")),
        (Vitals(rss_bytes=201 * MIB), life(), Kill("rss_ceiling")),
        (Vitals(threads=51), life(), Retire("threads")),
        (Vitals(fds=61), life(), Retire("fds")),
        (Vitals(), life(age_s=1001.0), Retire("max_age")),
        (Vitals(), life(busy=True, quiet_s=10.1), Kill("stalled")),
        # a worker without a job has no progress to make
        (Vitals(), life(quiet_s=10.1), KEEP),
        # four times the recording's duration, and never less than ten minutes
        (Vitals(), life(busy=True, run_s=599.0, duration_s=1.0), KEEP),
        (Vitals(), life(busy=True, run_s=601.0, duration_s=1.0), Kill("job_timeout")),
        (Vitals(), life(busy=True, run_s=3999.0, duration_s=1000.0), KEEP),
        (Vitals(), life(busy=True, run_s=4001.0, duration_s=1000.0), Kill("job_timeout")),
    ],
)
def test_a_worker_is_judged_by_its_signs_and_its_life(
    vitals: Vitals, state: Life, expected: Verdict
) -> None:
    assert judge(POLICY, vitals, state) == expected


def test_a_rule_set_to_zero_is_switched_off() -> None:
    off = RecyclePolicy(
        max_requests=0,
        rss_soft=0,
        rss_ceiling=0,
        max_age=0,
        max_threads=0,
        max_fds=0,
        stall_timeout=0,
    )
    vitals = Vitals(rss_bytes=1 << 50, threads=9999, fds=9999)
    assert judge(off, vitals, life(max_requests=0, requests=9999, age_s=1e9, quiet_s=1e9)) == KEEP
    assert isinstance(judge(off, vitals, life(max_requests=0, busy=True, quiet_s=1e9)), Keep)


@given(rss=st.integers(0, 400), growth=st.floats(-1e9, 2e9), busy=st.booleans())
def test_samples_are_never_further_apart_than_configured(
    rss: int, growth: float, busy: bool
) -> None:
    delay = next_sample_s(POLICY, Vitals(rss_bytes=rss * MIB), growth, busy=busy)
    assert 0.001 <= delay <= POLICY.sample_every


@pytest.mark.parametrize(
    ("rss", "growth"),
    [
        (190, 0),  # near the ceiling
        (60, 200 * MIB),  # growing fast
    ],
)
def test_a_busy_worker_near_the_ceiling_or_growing_fast_is_looked_at_every_50_ms_or_less(
    rss: int, growth: float
) -> None:
    assert next_sample_s(POLICY, Vitals(rss_bytes=rss * MIB), growth, busy=True) <= 0.05
