"""The engine's service: held, probed, throttled, back."""

from __future__ import annotations

from sttd.core.health import FIRST_PROBE_S, RAISE_EVERY_S, EngineHealth, EngineState
from sttd.core.retry import FailureKind


def test_while_the_service_is_away_one_probe_goes_out_and_success_opens_the_gate() -> None:
    health = EngineHealth(most=10, backoff_max=60)
    assert health.report(FailureKind.UNAVAILABLE, "refused", 3, 100.0)
    assert health.allowed(0, 100.0) == 0
    assert health.allowed(0, 100.0 + FIRST_PROBE_S) == 1
    assert health.allowed(1, 100.0 + FIRST_PROBE_S, probing=1) == 0
    assert health.succeed(102.0)
    assert health.allowed(0, 102.0) == 10


def test_jobs_that_ran_before_are_no_reason_not_to_probe_but_for_the_quota() -> None:
    health = EngineHealth(most=3, backoff_max=60)
    health.report(FailureKind.UNAVAILABLE, "refused", 3, 0.0)
    assert health.allowed(2, FIRST_PROBE_S) == 1
    assert health.allowed(3, FIRST_PROBE_S) == 0
    health.succeed(2.0)
    health.report(FailureKind.THROTTLED, "429", 3, 3.0)
    assert health.allowed(2, 3.0 + FIRST_PROBE_S) == 0, "the quota is for fewer"


def test_a_probe_goes_out_at_least_every_backoff_max() -> None:
    health = EngineHealth(most=10, backoff_max=60)
    now = 0.0
    for _ in range(50):
        health.report(FailureKind.UNAUTHORIZED, "401", 1, now)
        assert health.probe_at - now <= 60
        now = health.probe_at
    assert health.state is EngineState.UNAUTHORIZED


def test_many_reports_of_one_outage_do_not_push_the_probe_away() -> None:
    health = EngineHealth(most=10, backoff_max=3600)
    for n in range(20):
        health.report(FailureKind.UNAVAILABLE, "refused", 20 - n, 100.0 + n / 100)
    assert health.probe_at <= 101.0 + FIRST_PROBE_S


def test_reports_of_jobs_that_ran_before_never_put_the_probe_off_for_ever() -> None:
    health = EngineHealth(most=10, backoff_max=60)
    health.report(FailureKind.UNAVAILABLE, "refused", 3, 0.0)
    now, probes = 0.0, 0
    for _ in range(1000):
        now += 0.4
        health.report(FailureKind.UNAVAILABLE, "refused", 1, now)
        probes += health.allowed(1, now + 0.2)
    assert probes


def test_throttling_halves_the_sessions_and_time_gives_them_back_one_by_one() -> None:
    health = EngineHealth(most=16, backoff_max=60)
    health.report(FailureKind.THROTTLED, "429", 12, 0.0, after=5.0)
    assert health.probe_at == 5.0
    health.succeed(5.0)
    assert health.allowed(0, 5.0) == 6
    assert health.ceiling() == 6
    assert health.allowed(0, 5.0 + RAISE_EVERY_S) == 7
    now = 5.0 + RAISE_EVERY_S
    for _ in range(20):
        now += RAISE_EVERY_S
        health.allowed(0, now)
    assert health.allowed(0, now) == 16


def test_daemons_that_were_throttled_together_do_not_come_again_together() -> None:
    def probes(jitter: int) -> float:
        health = EngineHealth(most=16, backoff_max=60, jitter=lambda most: min(jitter, most))
        health.report(FailureKind.THROTTLED, "429", 12, 0.0)
        return health.probe_at

    assert [probes(n) for n in (0, 25, 100)] == [1.0, 1.25, 1.5]


def test_the_operator_may_have_it_probed_at_once() -> None:
    health = EngineHealth(most=1, backoff_max=3600)
    for n in range(12):
        health.report(FailureKind.UNAUTHORIZED, "401", 1, float(n * 4000))
    now = 50_000.0
    health.report(FailureKind.UNAUTHORIZED, "401", 1, now)
    assert health.allowed(0, now + 1) == 0
    health.probe_soon(now + 1)
    assert health.allowed(0, now + 1) == 1
