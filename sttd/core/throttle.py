"""Restart throttle: a slot whose workers die unplanned is barred for a while, ever longer.

After Postfix's master (a service that fails before its first use is throttled) with exponential
time. Planned recycles never come here. Decides only; `now` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

BAR_FIRST_S = 0.5
BAR_MOST_S = 60.0
SLACK_S = 5.0  # a slot is filled a moment after its bar is over, not at that instant
DEGRADED_AFTER = 3  # deaths in a row, over all slots, before the daemon calls itself degraded


@dataclass(slots=True)
class Slot:
    """A place in the pool and what befell its workers lately."""

    index: int
    worker: str | None = None
    deaths: int = 0  # unplanned, since a worker here last finished a job
    barred_until: float = 0.0

    def died(self, now: float, *, before_ready: bool) -> None:
        """A worker died unplanned. One crash of a worker that had worked costs no delay."""
        self.deaths += 1
        steps = self.deaths - (0 if before_ready else 1)
        if steps > 0:
            self.barred_until = now + min(BAR_MOST_S, BAR_FIRST_S * 2.0 ** min(steps - 1, 16))

    def spins(self, now: float, starting: Collection[str]) -> bool:
        """Whether its workers have died again and again, and none of them is ready now."""
        if self.deaths < DEGRADED_AFTER:
            return False
        if self.worker is not None:
            return self.worker in starting
        return now < self.barred_until + SLACK_S

    def worked(self) -> None:
        """A worker here proved that it can live."""
        self.deaths = 0
        self.barred_until = 0.0


@dataclass(slots=True)
class Deaths:
    """Unplanned ones in a row, over all slots."""

    count: int = 0
    last: float = 0.0

    def died(self, now: float) -> None:
        """One more."""
        self.count += 1
        self.last = now

    def worked(self) -> None:
        """A worker ended a job alive, or those that died were of another configuration."""
        self.count = 0

    def row(self, now: float, *, whole: bool) -> int:
        """How many there were; over once the pool has stood `whole` for longer than any bar."""
        if whole and now - self.last > BAR_MOST_S:
            self.count = 0
        return self.count
