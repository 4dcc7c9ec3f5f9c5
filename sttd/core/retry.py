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


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[retry]` section."""

    max_attempts: Positive = 4
    max_crashes: Positive = 2
    backoff: Seconds = 30.0
    backoff_max: Seconds = 3600.0
