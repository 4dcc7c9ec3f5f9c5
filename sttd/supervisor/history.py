"""Every worker's RSS over time, thinned as it grows older: hours of it in less than a mebibyte.

A life has at most 512 points; when they are full, neighbours are merged and the higher one stays,
so that peaks survive. All lives together have a budget: the finest curve of the dead is halved
until it fits, and the oldest are forgotten. Judges nothing, reads no clock.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator

MOST_POINTS = 512  # of one life
FEWEST_POINTS = 16  # a finished life is thinned to no less
BUDGET = 32_768  # points of all lives, 16 bytes each: 512 KiB
MOST_FINISHED = 256  # lives that are over
FIRST_STEP_S = 0.01  # seconds between points, doubled by every thinning


class Curve:
    """One worker's RSS. `times` are the daemon's monotonic seconds, `sizes` bytes."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.times = array("d")
        self.sizes = array("Q")
        self.ended: str | None = None  # the reason
        self.killed = False
        self._step_s = FIRST_STEP_S

    def __len__(self) -> int:
        return len(self.times)

    def add(self, now: float, size: int, most: int) -> None:
        """A sample; within one step of the point before, the higher one stays."""
        if len(self) > 1 and now - self.times[-2] < self._step_s:
            if size >= self.sizes[-1]:
                self.times[-1], self.sizes[-1] = now, size
            return
        self.put(now, size)
        if len(self) > most:
            self.thin()

    def put(self, now: float, size: int) -> None:
        """A point that is there in any case."""
        self.times.append(now)
        self.sizes.append(size)

    def thin(self) -> None:
        """Half as many points: of each pair the higher; the first and the last stay."""
        self._step_s *= 2
        times, sizes = self.times, self.sizes
        last = len(times) - 1
        kept = [0]
        for left in range(1, last, 2):
            right = left + 1
            kept.append(right if right < last and sizes[right] > sizes[left] else left)
        if last > 0:
            kept.append(last)
        self.times = array("d", (times[i] for i in kept))
        self.sizes = array("Q", (sizes[i] for i in kept))


class History:
    """The curves of all workers that live, and of those that lived lately."""

    def __init__(self) -> None:
        self._living: dict[str, Curve] = {}
        self._finished: deque[Curve] = deque()
        self._latest: dict[str, tuple[float, int]] = {}

    def add(self, worker: str, now: float, size: int) -> None:
        """A sample of a worker's RSS, in bytes."""
        curve = self._living.get(worker)
        if curve is None:
            curve = self._living[worker] = Curve(worker)
            self._fit()
        self._latest[worker] = (now, size)
        curve.add(now, size, self._most())

    def end(self, worker: str, reason: str, *, killed: bool, now: float) -> None:
        """The worker is gone: its curve ends with its last sample."""
        curve = self._living.pop(worker, None)
        at, size = self._latest.pop(worker, (now, 0))
        if curve is None:
            return
        if curve.times[-1] < at:
            curve.put(at, size)
        curve.ended, curve.killed = reason, killed
        self._finished.append(curve)
        self._fit()

    def curves(self) -> Iterator[Curve]:
        """The oldest first, those that live last."""
        yield from self._finished
        yield from self._living.values()

    def _most(self) -> int:
        return max(FEWEST_POINTS, min(MOST_POINTS, BUDGET // 2 // max(1, len(self._living))))

    def _fit(self) -> None:
        """Keep within the budget, as if every living curve were full."""
        while len(self._finished) > MOST_FINISHED:
            self._finished.popleft()
        budget = BUDGET - len(self._living) * self._most()
        held = sum(map(len, self._finished))
        while held > budget:
            finest = max(self._finished, key=len)  # the oldest of equals
            if len(finest) > FEWEST_POINTS:
                held -= len(finest)
                finest.thin()
                held += len(finest)
            else:
                held -= len(self._finished.popleft())
