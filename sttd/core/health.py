"""The engine's service: is it there, may we call it, how many sessions at once.

A circuit breaker and an additive-increase multiplicative-decrease limit. Decides only; `now` is
monotonic seconds. Knows no job and no worker.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from sttd.core.retry import FailureKind


class EngineState(enum.StrEnum):
    """As `sttctl status` shows it."""

    OK = "ok"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"


STATE_OF = {
    FailureKind.THROTTLED: EngineState.THROTTLED,
    FailureKind.UNAVAILABLE: EngineState.UNAVAILABLE,
    FailureKind.UNAUTHORIZED: EngineState.UNAUTHORIZED,
}
UNLIMITED = 1 << 30  # sessions; an engine without a quota
FIRST_PROBE_S = 1.0  # the first probe after a report; doubles up to backoff_max
SPREAD = 50  # percent: as much longer, at most, after a refusal for too many requests
RAISE_EVERY_S = 30.0  # a lowered session limit grows by one this often


@dataclass(slots=True)
class EngineHealth:
    """The breaker. While `state` is not ok, at most one job (the probe) may run anew.

    Jobs that ran before go on beside it: they may take hours, and tell nothing of the door.
    """

    most: int  # the configured limit of sessions at once
    backoff_max: float
    # draws a whole number from 0 to its argument: daemons that share a quota, and were refused
    # together, shall not come again together
    jitter: Callable[[int], int] = lambda _: 0
    state: EngineState = EngineState.OK
    detail: str = ""
    limit: int = 0  # 0: as configured
    failures: int = 0  # reports since the last success
    probe_at: float = 0.0
    raised: float = 0.0
    outages: int = 0  # times it ceased to be ok; the present one's number while it is not

    def report(
        self, kind: FailureKind, message: str, running: int, now: float, after: float | None = None
    ) -> bool:
        """Take a report of trouble; True when the state changed. `after`: the service's wish."""
        state = STATE_OF[kind]
        changed = state is not self.state
        self.outages += self.state is EngineState.OK
        if state is EngineState.THROTTLED and changed:
            self.limit = max(1, min(running, self.most) // 2)
            self.raised = now
        self.state, self.detail = state, message
        if not changed and now < self.probe_at:
            return False  # of a job that ran before: else it would put the probe off for ever
        self.failures += 1
        wait = FIRST_PROBE_S * 2.0 ** min(max(self.failures - 1, 0), 32)
        if state is EngineState.THROTTLED:
            wait += wait * self.jitter(SPREAD) / 100
        self.probe_at = now + min(self.backoff_max, max(wait, after or 0.0))
        return changed

    def succeed(self, now: float) -> bool:
        """A job or probe was transcribed; True when the state changed."""
        changed = self.state is not EngineState.OK
        self.state, self.detail, self.failures = EngineState.OK, "", 0
        if changed:
            self.raised = now
        return changed

    def ceiling(self) -> int:
        """Sessions that may run at once now; 0 where there is no limit."""
        return min(self.limit, self.most) or (0 if self.most >= UNLIMITED else self.most)

    def probe_soon(self, now: float) -> None:
        """The operator wishes to know: probe at once."""
        self.probe_at = now
        self.failures = 0

    @property
    def outage(self) -> int:
        """The number of the present one; 0 while all is well."""
        return 0 if self.state is EngineState.OK else self.outages

    def allowed(self, running: int, now: float, *, probing: int = 0) -> int:
        """How many more jobs may start now, given how many run; `probing` since it is not ok."""
        if self.state is not EngineState.OK:
            free = running < min(self.limit or self.most, self.most)
            return int(free and probing == 0 and now >= self.probe_at)
        if self.limit and now - self.raised >= RAISE_EVERY_S:
            self.limit, self.raised = self.limit + 1, now
        if self.limit >= self.most:
            self.limit = 0
        return max(0, (self.limit or self.most) - running)
