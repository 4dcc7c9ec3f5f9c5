"""What becomes of an attempt that brought no transcript."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.core.retry import (
    COUNTED,
    Again,
    Counters,
    Ended,
    FailureKind,
    Never,
    RetryPolicy,
    backoff_s,
    decide,
)

POLICY = RetryPolicy(max_attempts=4, max_crashes=2, backoff=30, backoff_max=100)


def after(
    kind: FailureKind,
    *,
    attempt: int = 1,
    failures: int = 0,
    crashes: int = 0,
    segments: int = 0,
    retry_after_s: float | None = None,
) -> Again | Never:
    counters = Counters(attempt=attempt, failures=failures, crashes=crashes)
    return decide(
        POLICY, counters, Ended(kind=kind, segments=segments, retry_after_s=retry_after_s)
    )


@pytest.mark.parametrize(
    ("kind", "failures", "crashes", "expected"),
    [
        # a first failure waits for the backoff
        (FailureKind.FAILED, 0, 0, Again(delay_s=30, failures=1, crashes=0)),
        # a second one twice as long
        (FailureKind.STALLED, 1, 0, Again(delay_s=60, failures=2, crashes=0)),
        # a third one as long as backoff_max allows
        (FailureKind.JOB_TIMEOUT, 2, 0, Again(delay_s=100, failures=3, crashes=0)),
        # the fourth is the last
        (FailureKind.TRANSIENT, 3, 0, Never(None)),
        # a crash counts to both
        (FailureKind.CRASHED, 0, 0, Again(delay_s=30, failures=1, crashes=1)),
        # the ceiling as well
        (FailureKind.RSS_CEILING, 1, 0, Again(delay_s=60, failures=2, crashes=1)),
        # the second dead worker is one too many
        (FailureKind.CRASHED, 1, 1, Never("quarantined")),
        # an undecodable recording is never tried again
        (FailureKind.INVALID, 0, 0, Never(None)),
        # the service's trouble is not the job's, however often
        (FailureKind.THROTTLED, 3, 1, Again(delay_s=0, failures=3, crashes=1)),
        (FailureKind.UNAUTHORIZED, 3, 1, Again(delay_s=0, failures=3, crashes=1)),
        # a full disk is looked at again after the backoff
        (FailureKind.ENVIRONMENT, 3, 1, Again(delay_s=30, failures=3, crashes=1)),
        # the daemon's own end is told apart
        (FailureKind.SHUTDOWN, 3, 1, Again(delay_s=0, failures=3, crashes=1, interrupted=True)),
    ],
)
def test_each_kind_counts_against_what_the_contract_says(
    kind: FailureKind, failures: int, crashes: int, expected: Again | Never
) -> None:
    assert after(kind, failures=failures, crashes=crashes) == expected


def test_an_attempt_that_committed_a_segment_starts_both_counts_anew() -> None:
    again = after(FailureKind.CRASHED, failures=3, crashes=1, segments=1)
    assert again == Again(delay_s=30, failures=1, crashes=1)


def test_progress_does_not_carry_a_job_beyond_a_hundred_attempts() -> None:
    assert after(FailureKind.FAILED, attempt=100, segments=5) == Never(None)


def test_a_machine_that_lacks_something_is_not_asked_without_a_pause() -> None:
    policy = RetryPolicy(backoff=0.0)
    counters, ended = Counters(attempt=1), Ended(kind=FailureKind.ENVIRONMENT)
    again = decide(policy, counters, ended)
    assert isinstance(again, Again)
    assert again.delay_s >= 1


def test_what_the_service_asks_for_is_waited_for() -> None:
    again = after(FailureKind.TRANSIENT, retry_after_s=77)
    assert isinstance(again, Again)
    assert again.delay_s == 77


@given(
    kind=st.sampled_from(list(FailureKind)),
    failures=st.integers(0, 3),
    crashes=st.integers(0, 1),
)
def test_quarantine_never_comes_before_max_crashes(
    kind: FailureKind, failures: int, crashes: int
) -> None:
    decision = after(kind, failures=failures, crashes=crashes)
    if decision == Never("quarantined"):
        assert crashes + 1 >= POLICY.max_crashes
    if kind not in COUNTED and kind is not FailureKind.INVALID:
        assert isinstance(decision, Again)


@given(failures=st.integers(1, 10_000))
def test_the_backoff_never_exceeds_its_bound(failures: int) -> None:
    assert 0 < backoff_s(POLICY, failures) <= POLICY.backoff_max


def test_attempts_that_counted_to_nothing_leave_a_job_all_that_count() -> None:
    policy = RetryPolicy(max_attempts=4)
    counters = Counters(attempt=250, failures=0, crashes=0)

    decision = decide(policy, counters, Ended(kind=FailureKind.TRANSIENT))

    assert isinstance(decision, Again)
    assert decision.failures == 1
