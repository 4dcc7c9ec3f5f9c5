"""How fast things go, from one look to the next: speeds of jobs, time left, rates. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from sttd.wire.views import FINAL_STATES, JobView

OVER_S = 30.0  # rates and speeds are means over so long


class Pace:
    """Feed it `look` with the jobs that run and the number of all that have finished."""

    def __init__(self, over_s: float = OVER_S) -> None:
        self._over_s = over_s
        self._looks: deque[tuple[float, float, int]] = deque()  # when, audio so far, jobs so far
        self._jobs: dict[str, deque[tuple[float, float]]] = {}  # when, position
        self._durations: dict[str, float] = {}
        self._audio_s = 0.0

    def look(self, now: float, jobs: Iterable[JobView], finished: int) -> None:
        """How things stand. A job that is not named any more is taken to be done."""
        present: set[str] = set()
        for job in jobs:
            present.add(job.job)
            self._advance(now, job)
        for gone in self._jobs.keys() - present:
            last = self._jobs.pop(gone)[-1][1]
            self._audio_s += max(0.0, self._durations.pop(gone, last) - last)
        self._looks.append((now, self._audio_s, finished))
        self._forget(self._looks, now)

    def speed(self, job: str) -> float | None:
        """Seconds of audio in a second; None while not known."""
        seen = self._jobs.get(job)
        if not seen or seen[-1][0] <= seen[0][0] or seen[-1][1] <= seen[0][1]:
            return None
        return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])

    def left_s(self, job: JobView) -> float | None:
        """Seconds until the job is done; None while not known."""
        speed = self.speed(job.job)
        if speed is None or job.duration_s is None:
            return None
        return max(0.0, job.duration_s - job.progress_s) / speed

    def jobs_per_minute(self) -> float | None:
        """Jobs finished a minute; None after the first look."""
        return self._rate(2)

    def audio_per_minute(self) -> float | None:
        """Minutes of audio done a minute; None after the first look."""
        rate = self._rate(1)
        return None if rate is None else rate / 60

    def _rate(self, column: int) -> float | None:
        first, last = self._looks[0], self._looks[-1]
        span = last[0] - first[0]
        return max(0.0, last[column] - first[column]) * 60 / span if span > 0 else None

    def _advance(self, now: float, job: JobView) -> None:
        seen = self._jobs.get(job.job)
        if seen is None:
            seen = self._jobs[job.job] = deque()
        elif job.progress_s >= seen[-1][1]:
            self._audio_s += job.progress_s - seen[-1][1]
        else:  # it was tried again from an earlier place
            seen.clear()
        seen.append((now, job.progress_s))
        if job.duration_s is not None:
            self._durations[job.job] = job.duration_s
        self._forget(seen, now)

    def _forget(
        self, seen: deque[tuple[float, float]] | deque[tuple[float, float, int]], now: float
    ) -> None:
        while len(seen) > 2 and now - seen[0][0] > self._over_s:
            seen.popleft()


def waiting_line(
    pace: Pace, now: float, jobs: Iterable[JobView]
) -> tuple[float | None, float | None]:
    """For `submit --wait`: the speed of all jobs together, and the time until the last is done."""
    known = list(jobs)
    running = [job for job in known if job.state == "running"]
    pace.look(now, running, sum(job.state in FINAL_STATES for job in known))
    speeds = [speed for job in running if (speed := pace.speed(job.job)) is not None]
    unfinished = [job for job in known if job.state not in FINAL_STATES]
    if not speeds:
        return None, None
    if any(job.duration_s is None for job in unfinished):
        return sum(speeds), None
    left = sum((job.duration_s or 0.0) - job.progress_s for job in unfinished)
    return sum(speeds), max(0.0, left) / sum(speeds)
