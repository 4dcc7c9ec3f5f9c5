"""When the inbox is scanned: when the bell rang, and now and then in any case; never without rest.

Told the time, in seconds; reads no clock and scans nothing.
"""

from __future__ import annotations

_SHARE = 20  # a scan is followed by a rest of at least so many times its length


class ScanSchedule:
    """One scan after the other, each in one or more pieces."""

    def __init__(self, rescan_s: float) -> None:
        self.rescan_s = rescan_s  # may be changed at any time
        self.running = False
        self._wanted = True
        self._not_before = 0.0
        self._rescan_at = 0.0
        self._cost = 0.0

    def ask(self) -> None:
        """Something may have changed: scan when it is time."""
        self._wanted = True

    def is_time(self, now: float) -> bool:
        """Whether a piece is to be scanned now, of the scan that runs or of a new one."""
        return self.running or (self._wanted and now >= self._not_before) or now >= self._rescan_at

    def began(self) -> None:
        """A piece is about to be scanned."""
        if not self.running:
            self.running, self._wanted, self._cost = True, False, 0.0

    def did(self, began_at: float, now: float, *, finished: bool) -> None:
        """A piece was scanned."""
        self._cost += now - began_at
        if finished:
            self.running = False
            self._not_before = now + self._cost * _SHARE
            self._rescan_at = now + self.rescan_s

    def abandon(self) -> None:
        """The scan that runs was given up; begin another as soon as it makes sense."""
        self.running, self._wanted, self._not_before = False, True, 0.0

    def wait(self, now: float) -> float:
        """Seconds until it is time; may be negative."""
        times = [self._rescan_at]
        if self._wanted:
            times.append(self._not_before)
        return min(times) - now
