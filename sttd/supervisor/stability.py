"""Whether a file has been left alone for long enough: a bounded memory of signatures.

Observes by CLOCK_BOOTTIME. The wall clock is believed only for a file never seen before whose
change time is older than the wait, and never again once it was seen to jump. Opens no file: it is
told signatures and answers yes or no, and when to look again.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sttd.supervisor.records import Signature

MAX_REMEMBERED = 20_000  # files; some 400 bytes each
_JUMP_S = 1.0  # of the wall clock against CLOCK_BOOTTIME, between two looks
_BUSY_MIN_S, _BUSY_MAX_S = 0.01, 1.0  # between two looks at a file that somebody writes
_BUSY_SHARE = 0.1  # ... of the time for which it has been written
_NS = 1e9


@dataclass(frozen=True)
class Clock:
    """The two clocks, in seconds; `boottime` goes on while the machine is suspended."""

    boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    wall: Callable[[], float] = time.time


@dataclass(slots=True)
class _Seen:
    """A file under observation."""

    mark: int  # the signature's hash
    since: float  # boottime of the first look at this signature
    due: float  # boottime of the next look
    round: int  # the latest one in which it was there
    busy_since: float | None = None


class Stability:
    """Who has been unchanged since when."""

    def __init__(self, clock: Clock, limit: int = MAX_REMEMBERED) -> None:
        self._clock = clock
        self._limit = limit
        self._seen: dict[str, _Seen] = {}
        self._queue: list[tuple[float, str]] = []  # (due, name); stale entries are skipped
        self._round = 0
        self._offset = clock.wall() - clock.boottime()
        self.wall_is_trusted = True

    def __len__(self) -> int:
        return len(self._seen)

    def check_clock(self) -> None:
        """Compare the clocks; call before every look. After a jump the wall is believed no more."""
        offset = self._clock.wall() - self._clock.boottime()
        if abs(offset - self._offset) > _JUMP_S:
            self.wall_is_trusted = False
        self._offset = offset

    def is_settled(self, name: str, signature: Signature, wait_s: float) -> bool:
        """Whether the file has been unchanged for `wait_s`; if not, a later look is due."""
        if wait_s <= 0:
            return True
        now = self._clock.boottime()
        seen = self._seen.get(name)
        if seen is None:
            if self._is_old(signature, wait_s):
                return True
            self._remember(name, signature, now, now + wait_s)
            return False
        seen.round = self._round
        mark = hash(signature)
        if seen.mark != mark:
            seen.mark, seen.since, seen.busy_since = mark, now, None
        if now - seen.since >= wait_s:
            return True
        self._schedule(name, seen, seen.since + wait_s)
        return False

    def is_busy(self, name: str, signature: Signature) -> None:
        """Somebody has the file open for writing: look again soon, and ever more seldom."""
        now = self._clock.boottime()
        seen = self._seen.get(name) or self._remember(name, signature, now, now)
        if seen is None:
            return
        if seen.busy_since is None:
            seen.busy_since = now
        wait = min(max((now - seen.busy_since) * _BUSY_SHARE, _BUSY_MIN_S), _BUSY_MAX_S)
        self._schedule(name, seen, now + wait)

    def forget(self, name: str) -> None:
        """The file is gone, or ours."""
        self._seen.pop(name, None)

    def due(self, limit: int) -> Iterator[str]:
        """The files to look at now, at most `limit`; each comes once until it is scheduled anew."""
        now = self._clock.boottime()
        while limit > 0 and self._next() is not None and self._queue[0][0] <= now:
            _, name = heapq.heappop(self._queue)
            self._seen[name].due = float("inf")
            limit -= 1
            yield name

    def next_look(self) -> float | None:
        """The boottime at which a file is due, or None."""
        return self._next()

    def begin_round(self) -> None:
        """A walk over the whole inbox begins."""
        self._round += 1

    def keep(self, name: str) -> None:
        """The file was met in this round."""
        seen = self._seen.get(name)
        if seen is not None:
            seen.round = self._round

    def end_round(self) -> None:
        """The walk is over: forget what it has not met."""
        gone = [name for name, seen in self._seen.items() if seen.round < self._round]
        for name in gone:
            del self._seen[name]

    def _is_old(self, signature: Signature, wait_s: float) -> bool:
        """An uploader can set mtime but not ctime; one in the future proves nothing."""
        if not self.wall_is_trusted:
            return False
        changed = max(signature.mtime_ns, signature.ctime_ns) / _NS
        return self._clock.wall() - changed > wait_s

    def _remember(self, name: str, signature: Signature, since: float, due: float) -> _Seen | None:
        """None when the memory is full: a later walk meets the file again."""
        if len(self._seen) >= self._limit:
            return None
        seen = self._seen[name] = _Seen(hash(signature), since, due, self._round)
        heapq.heappush(self._queue, (due, name))
        return seen

    def _schedule(self, name: str, seen: _Seen, due: float) -> None:
        if seen.due != due:
            seen.due = due
            heapq.heappush(self._queue, (due, name))

    def _next(self) -> float | None:
        """When the first file is due; drops what is stale from the front of the queue."""
        while self._queue:
            due, name = self._queue[0]
            seen = self._seen.get(name)
            if seen is not None and seen.due == due:
                return due
            heapq.heappop(self._queue)
        return None
