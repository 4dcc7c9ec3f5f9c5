"""Which rule will end a worker, and in about how many jobs: what the policy says, thought ahead.

Guesses for people; nothing is decided by it (`recycling` and `work` decide).
"""

from __future__ import annotations

import math

import msgspec

from sttd.core.recycling import RecyclePolicy

SHORTEST_S = 0.001  # a job; no worker is faster


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a worker; bytes and seconds."""

    requests: int
    max_requests: int  # jitter included; 0: no limit
    rss_bytes: int
    age_s: float
    grows_bytes: float  # expected of a job
    due: str | None = None  # the reason that it is to leave already


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The first rule to strike. Jobs or seconds are None where they cannot be told."""

    reason: str
    in_jobs: int | None
    in_s: float | None


def forecast(policy: RecyclePolicy, worker: Outlook) -> Forecast | None:
    """What will end the worker if it goes on like this; None when no rule ever will.

    Job counts and ages are compared by the worker's own pace, its age over its jobs. A worker
    without a job has no pace: then rules that count jobs come before its age.
    """
    if worker.due is not None:
        return Forecast(reason=worker.due, in_jobs=0, in_s=None)
    pace = max(SHORTEST_S, worker.age_s / worker.requests) if worker.requests else None
    found = [
        Forecast(reason=reason, in_jobs=jobs, in_s=None if pace is None else jobs * pace)
        for reason, jobs in _by_jobs(policy, worker)
    ]
    if policy.max_age:
        left = max(0.0, policy.max_age - worker.age_s)
        jobs = None if pace is None else math.ceil(left / pace)
        found.append(Forecast(reason="max_age", in_jobs=jobs, in_s=left))
    return min(found, key=_order, default=None)


def _by_jobs(policy: RecyclePolicy, worker: Outlook) -> list[tuple[str, int]]:
    """Rules that strike after a number of jobs. A job that would cross the ceiling is not begun."""
    found: list[tuple[str, int]] = []
    if worker.max_requests:
        found.append(("max_requests", max(0, worker.max_requests - worker.requests)))
    if worker.grows_bytes >= 1:  # less is noise
        if policy.rss_soft:
            room = policy.rss_soft - worker.rss_bytes
            found.append(("rss_soft", max(0, math.floor(room / worker.grows_bytes) + 1)))
        if policy.rss_ceiling:
            room = policy.rss_ceiling - worker.rss_bytes
            found.append(("predicted", max(0, math.floor(room / worker.grows_bytes))))
    return found


def _order(one: Forecast) -> tuple[bool, float, float]:
    jobs = math.inf if one.in_jobs is None else one.in_jobs
    return one.in_jobs is None, jobs, one.in_s or 0.0
