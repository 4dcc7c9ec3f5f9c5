"""How much memory a job leaves behind: a robust line through what the latest jobs did.

Growth of RSS over a job = per job + per audio minute, by Theil and Sen (the median of all
pairwise slopes): one odd job in three does not bend it. Decides nothing; bounded.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque

LATEST = 32  # jobs that are remembered; 496 pairs, about 100 microseconds to fit
ENOUGH = 5  # fewer tell nothing
APART = 0.05  # minutes; closer durations give no slope


class Growth:
    """The latest jobs of one engine, all workers together."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[float, int]] = deque(maxlen=LATEST)
        self._line: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, duration_s: float | None, grown: int) -> None:
        """A job of that duration left the worker `grown` bytes larger (or smaller)."""
        self._jobs.append(((duration_s or 0.0) / 60, grown))
        self._line = None

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

    def _fit(self) -> tuple[float, float]:
        slopes = [
            (b[1] - a[1]) / (b[0] - a[0])
            for a, b in itertools.combinations(self._jobs, 2)
            if abs(b[0] - a[0]) > APART
        ]
        per_minute = max(0.0, statistics.median(slopes)) if slopes else 0.0
        per_job = statistics.median(grown - per_minute * m for m, grown in self._jobs)
        return per_job, per_minute
