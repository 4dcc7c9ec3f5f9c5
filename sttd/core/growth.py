"""How much memory jobs take and leave behind: a robust line through what the latest jobs did.

Growth of RSS over a job = per job + per audio minute, by Theil and Sen (the median of all
pairwise slopes): one odd job in three does not bend it. Decides nothing; bounded.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque

LATEST = 32  # jobs that are remembered; 496 pairs, about 100 microseconds to fit
REFIT = 8  # jobs after which the line through a full memory is drawn anew
ENOUGH = 5  # fewer tell nothing
SURE = 10  # fewer are no ground for failing a job
Z = 2.576  # of the normal distribution: 99 % lie within, so 0.5 % below
FARTHEST = 10.0  # a line is prolonged to so many times the longest job seen, and no farther
LOW = 0.1  # this share of the jobs may lie below the line that is called certain
APART = 0.05  # minutes; closer durations give no slope


class Growth:
    """The latest jobs of one engine, all workers together."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[float, int]] = deque(maxlen=LATEST)
        self._line: tuple[float, float] | None = None
        self._since = 0  # jobs since the line was drawn

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, duration_s: float | None, grown: int) -> None:
        """A job of that duration left the worker `grown` bytes larger (or smaller)."""
        self._jobs.append(((duration_s or 0.0) / 60, grown))
        self._since += 1
        if self._since >= REFIT or len(self._jobs) < LATEST:
            self._line, self._since = None, 0

    def line(self) -> tuple[float, float]:
        """Bytes per job and bytes per audio minute; (0, 0) while too little is known."""
        if self._line is None:
            self._line = self._fit() if len(self._jobs) >= ENOUGH else (0.0, 0.0)
        return self._line

    def expected(self, duration_s: float | None) -> int:
        """Bytes that a job of that duration will leave behind; never negative.

        Where the duration is not known, that of the latest jobs is taken.
        """
        per_job, per_minute = self.line()
        if duration_s is None:
            minutes = statistics.median(m for m, _ in self._jobs) if self._jobs else 0.0
        else:
            minutes = duration_s / 60
        return max(0, int(per_job + per_minute * minutes))

    def at_least(self, duration_s: float) -> int | None:
        """Bytes that a job of that duration will take with near certainty; None: nobody knows.

        The lower end of Sen's 99 % interval for the slope (Sen 1968: by the variance of Kendall's
        statistic), through the lowest tenth of the jobs; only from ten jobs on, and not
        for recordings more than ten times as long as the longest of them.
        """
        count, minutes = len(self._jobs), duration_s / 60
        if count < SURE or minutes > FARTHEST * max(m for m, _ in self._jobs):
            return None
        slopes = sorted(self._slopes())
        spread = Z * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
        rank = math.floor((len(slopes) - spread) / 2)
        if rank < 0:
            return None
        slope = max(0.0, slopes[rank])
        rest = sorted(grown - slope * m for m, grown in self._jobs)
        return max(0, int(rest[int(LOW * count)] + slope * minutes))

    def _slopes(self) -> list[float]:
        return [
            (b[1] - a[1]) / (b[0] - a[0])
            for a, b in itertools.combinations(self._jobs, 2)
            if abs(b[0] - a[0]) > APART
        ]

    def _fit(self) -> tuple[float, float]:
        slopes = self._slopes()
        per_minute = max(0.0, statistics.median(slopes)) if slopes else 0.0
        per_job = statistics.median(grown - per_minute * m for m, grown in self._jobs)
        return per_job, per_minute


class Fresh:
    """The RSS of workers that have just become ready, bytes; the latest of them."""

    def __init__(self) -> None:
        self._latest: deque[int] = deque(maxlen=LATEST)
        self.most = 0  # ever; it only rises, so that what depends on it does not flutter

    def add(self, size: int) -> None:
        """A worker is ready and has that RSS; 0 says nothing."""
        if size:
            self._latest.append(size)
            self.most = max(self.most, size)

    def least(self) -> int | None:
        """The smallest of the latest; None while none was seen."""
        return min(self._latest, default=None)
