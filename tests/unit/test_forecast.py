"""Which rule comes first, and in how many jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.core.forecast import Forecast, Outlook, forecast
from sttd.core.recycling import MIB, RecyclePolicy

POLICY = RecyclePolicy(rss_soft=300 * MIB, rss_ceiling=400 * MIB, max_age=0)


def outlook(**fields: object) -> Outlook:
    usual: dict[str, object] = {
        "requests": 2,
        "max_requests": 50,
        "rss_bytes": 100 * MIB,
        "age_s": 20.0,
        "grows_bytes": 0.0,
    }
    return Outlook(**{**usual, **fields})  # type: ignore[arg-type]  # the fields above


@pytest.mark.parametrize(
    ("fields", "reason", "jobs"),
    [
        ({}, "max_requests", 48),
        ({"grows_bytes": 10.0 * MIB}, "rss_soft", 21),  # the 20th stands on the line, not above
        ({"grows_bytes": 300.0 * MIB}, "rss_soft", 1),
        ({"grows_bytes": 301.0 * MIB}, "predicted", 0),
        ({"rss_bytes": 350 * MIB, "grows_bytes": 1.0}, "rss_soft", 0),
        ({"due": "requested"}, "requested", 0),
    ],
)
def test_the_rule_that_strikes_first_is_told(
    fields: dict[str, object], reason: str, jobs: int
) -> None:
    found = forecast(POLICY, outlook(**fields))
    assert found is not None
    assert (found.reason, found.in_jobs) == (reason, jobs)


def test_age_is_compared_by_the_workers_own_pace() -> None:
    policy = RecyclePolicy(rss_soft=0, rss_ceiling=0, max_age=100.0)
    found = forecast(policy, outlook(requests=10, age_s=50.0))
    assert found == Forecast(reason="max_age", in_jobs=10, in_s=50.0)
    young = forecast(policy, outlook(requests=0, age_s=1.0))
    assert young is not None
    assert young.reason == "max_requests"


def test_without_rules_there_is_no_forecast() -> None:
    policy = RecyclePolicy(rss_soft=0, rss_ceiling=0, max_age=0)
    assert forecast(policy, outlook(max_requests=0, grows_bytes=1e6)) is None


@given(
    st.integers(0, 100),
    st.integers(0, 1 << 34),
    st.floats(0, 1e6),
    st.floats(-1e9, 1e9),
    st.integers(0, 60),
)
def test_a_forecast_is_never_negative(
    requests: int, rss: int, age: float, grows: float, most: int
) -> None:
    found = forecast(
        RecyclePolicy(),
        Outlook(requests=requests, max_requests=most, rss_bytes=rss, age_s=age, grows_bytes=grows),
    )
    assert found is not None
    assert found.in_jobs is None or found.in_jobs >= 0
    assert found.in_s is None or found.in_s >= 0
