"""What becomes of an attempt that brought no transcript: retry now, later, never, or hold.

Decides only; the ledger stores the counters and the shell waits.
"""

from __future__ import annotations

import enum

import msgspec

from sttd.core.units import Positive, Seconds


class FailureKind(enum.StrEnum):
    """Why an attempt ended without a transcript, by what it counts against."""

    FAILED = "failed"  # an ordinary failed attempt: counts to max_attempts
    TRANSIENT = "transient"  # the engine says: later; counts to max_attempts
    INVALID = "invalid"  # this recording never: fails at once
    STALLED = "stalled"  # no progress; counts to max_attempts
    JOB_TIMEOUT = "job_timeout"  # took too long; counts to max_attempts
    CRASHED = "crashed"  # died by a signal; counts to max_attempts and max_crashes
    RSS_CEILING = "rss_ceiling"  # killed at the ceiling; counts to both
    THROTTLED = "throttled"  # counts to nothing, like all that follow
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    ENVIRONMENT = "environment"  # disk, memory
    SHUTDOWN = "shutdown"


# what it counts for when a worker was told to leave, or killed, while it held a job
KIND_OF = {
    "rss_ceiling": FailureKind.RSS_CEILING,
    "stalled": FailureKind.STALLED,
    "job_timeout": FailureKind.JOB_TIMEOUT,
    "shutdown": FailureKind.SHUTDOWN,
    # asked to leave while it held a job (it was due): nobody's fault
    "requested": FailureKind.SHUTDOWN,
    "reloaded": FailureKind.SHUTDOWN,
    "scaled": FailureKind.SHUTDOWN,
}


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[retry]` section."""

    max_attempts: Positive = 4
    max_crashes: Positive = 2
    backoff: Seconds = 30.0
    backoff_max: Seconds = 3600.0


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What has gone wrong so far, since the last committed segment; `attempt` counts all starts."""

    attempt: int
    failures: int = 0
    crashes: int = 0


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How the attempt ended."""

    kind: FailureKind
    segments: int = 0  # committed by this attempt
    retry_after_s: float | None = None


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """Back into the queue in `delay_s` seconds with these counters."""

    delay_s: float
    failures: int
    crashes: int
    interrupted: bool = False


class Never(msgspec.Struct, frozen=True):
    """The job has failed; `code` None means the attempt's own code says it best."""

    code: str | None


Decision = Again | Never

COUNTED = frozenset(
    {
        FailureKind.FAILED,
        FailureKind.TRANSIENT,
        FailureKind.STALLED,
        FailureKind.JOB_TIMEOUT,
        FailureKind.CRASHED,
        FailureKind.RSS_CEILING,
    }
)
CRASHES = frozenset({FailureKind.CRASHED, FailureKind.RSS_CEILING})
ENVIRONMENT_S = 1.0  # at least, before a machine that lacks something is asked again
MOST_ATTEMPTS = 100  # whatever progress each of them made (docs: the contract's accounting)


def decide(policy: RetryPolicy, counters: Counters, ended: Ended) -> Decision:
    """What becomes of the job. Progress starts both counts anew before this attempt is counted.

    Uncounted kinds go back at once: what holds them is the engine's state, not the job's.
    """
    failures, crashes = (0, 0) if ended.segments else (counters.failures, counters.crashes)
    if ended.kind is FailureKind.INVALID:
        return Never(None)
    if ended.kind not in COUNTED:
        held = ended.kind is not FailureKind.SHUTDOWN
        # `backoff` may be 0, and no count would ever end trying at once again
        ill = ended.kind is FailureKind.ENVIRONMENT
        delay = max(policy.backoff, ENVIRONMENT_S) if ill else 0.0
        return Again(delay_s=delay, failures=failures, crashes=crashes, interrupted=not held)
    failures += 1
    crashes += ended.kind in CRASHES
    if crashes >= policy.max_crashes:
        return Never("quarantined")
    # attempts that count to nothing are numbered, too: alone, a high number says nothing
    endless = ended.segments > 0 and counters.attempt >= MOST_ATTEMPTS
    if failures >= min(policy.max_attempts, MOST_ATTEMPTS) or endless:
        return Never(None)
    delay = backoff_s(policy, failures)
    if ended.retry_after_s is not None:
        delay = max(delay, ended.retry_after_s)
    return Again(delay_s=delay, failures=failures, crashes=crashes)


def backoff_s(policy: RetryPolicy, failures: int) -> float:
    """Seconds before the next try: doubling from `backoff`, at most `backoff_max`."""
    return min(policy.backoff_max, policy.backoff * 2.0 ** min(failures - 1, 32))
