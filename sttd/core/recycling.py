"""When a worker must leave: one policy, judged on every sample and after every job.

Decides only. It kills nobody, draws no random number (the jitter is handed in) and reads no clock.
"""

from __future__ import annotations

import msgspec

from sttd.core.units import Count, Seconds, Size

MIB = 1 << 20


class RecyclePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[recycle]` section; etc/sttd.toml says what each line is for. 0 switches a rule off."""

    max_requests: Count = 50
    max_requests_jitter: Count = 10
    rss_soft: Size = 384 * MIB
    rss_ceiling: Size = 512 * MIB
    max_age: Seconds = 12 * 3600.0
    max_threads: Count = 200
    max_fds: Count = 1000
    sample_every: Seconds = 0.25
    stall_timeout: Seconds = 60.0
    job_timeout: Seconds = 0.0
    grace: Seconds = 10.0
    drain_timeout: Seconds = 15 * 60.0
    stall_abort: bool = False  # SIGABRT before SIGKILL, for a core dump of what hangs
    trim_threshold: Size = 16 * MIB  # growth in a job past which the worker calls malloc_trim


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's vital signs at one moment; bytes and counts. Zero where not yet sampled."""

    rss_bytes: int = 0
    peak_rss_bytes: int = 0
    threads: int = 0
    fds: int = 0


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What else the policy must know of a worker; seconds."""

    requests: int
    max_requests: int  # jitter included; 0: no limit
    age_s: float
    busy: bool = False
    quiet_s: float = 0.0  # since the job last progressed
    run_s: float = 0.0  # since the job started
    duration_s: float | None = None  # of the job's recording


class Keep(msgspec.Struct, frozen=True):
    """Nothing to be done."""


class Retire(msgspec.Struct, frozen=True):
    """Replace it once it is idle; `reason` is a key of `recycles`."""

    reason: str


class Kill(msgspec.Struct, frozen=True):
    """End it now; `reason` is a key of `recycles`."""

    reason: str


Verdict = Keep | Retire | Kill
KEEP = Keep()

# A recording is given this many times its duration, and never less than the floor: slower than
# that is hung even if it creeps. The Speech SDK sends at twice real time, PocketSphinx is faster.
TIMEOUT_FACTOR = 4.0
TIMEOUT_FLOOR_S = 600.0


def most_requests(policy: RecyclePolicy, extra: int) -> int:
    """Jobs after which a worker that drew `extra` is replaced; 0: no limit.

    By the policy in force, which a reload may have changed since the worker was forked.
    """
    if not policy.max_requests:
        return 0
    return policy.max_requests + min(extra, policy.max_requests_jitter)


def job_deadline_s(policy: RecyclePolicy, duration_s: float | None) -> float:
    """Seconds a job may run; infinite while neither the setting nor the duration is known."""
    if policy.job_timeout:
        return policy.job_timeout
    if duration_s is None:
        return float("inf")
    return max(TIMEOUT_FLOOR_S, TIMEOUT_FACTOR * duration_s)


def judge(policy: RecyclePolicy, vitals: Vitals, life: Life) -> Verdict:
    """What is to become of a worker.

    Called on every sample and after every job. While a job runs, RSS counts against the ceiling
    alone: what the job gives back when it is tidied up is no leak, so the soft line is judged on
    an idle worker.
    """
    if policy.rss_ceiling and vitals.rss_bytes > policy.rss_ceiling:
        return Kill("rss_ceiling")
    if life.busy:
        if policy.stall_timeout and life.quiet_s > policy.stall_timeout:
            return Kill("stalled")
        if life.run_s > job_deadline_s(policy, life.duration_s):
            return Kill("job_timeout")
    if life.max_requests and life.requests >= life.max_requests:
        return Retire("max_requests")
    if policy.rss_soft and not life.busy and vitals.rss_bytes > policy.rss_soft:
        return Retire("rss_soft")
    if policy.max_threads and vitals.threads > policy.max_threads:
        return Retire("threads")
    if policy.max_fds and vitals.fds > policy.max_fds:
        return Retire("fds")
    if policy.max_age and life.age_s > policy.max_age:
        return Retire("max_age")
    return KEEP


# -- how often to look -------------------------------------------------------------------------
NEAR_CEILING = 0.8  # share of the ceiling from which a worker is sampled fast
FAST_GROWTH = 20 * MIB  # bytes a second that count as growing fast
FAST_S = 0.02  # 20 ms: a leak of 200 MB/s then overshoots by about 4 MB
NEAR_S = 0.05


def next_sample_s(policy: RecyclePolicy, vitals: Vitals, growth: float, *, busy: bool) -> float:
    """Seconds until the next sample. `growth` is bytes a second since the last one.

    The time until the ceiling at the present growth, quartered, bounded by 20 ms below; the
    longest is `sample_every`.
    """
    longest = policy.sample_every or 0.25
    if not busy or not policy.rss_ceiling:
        return longest
    room = policy.rss_ceiling - vitals.rss_bytes
    if growth > FAST_GROWTH:
        return min(longest, max(FAST_S / 4, min(NEAR_S, room / growth / 4)))
    if vitals.rss_bytes > NEAR_CEILING * policy.rss_ceiling:
        return min(longest, FAST_S)
    return longest
