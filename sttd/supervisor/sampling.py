"""Looks at every worker as often as the policy wishes: often near the ceiling, seldom far off.

Reads by `vitals`, schedules on the loop; judges nothing. All that are far off are looked at
together, on the beat.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

import msgspec

from sttd.core.recycling import RecyclePolicy, Vitals, next_sample_s
from sttd.supervisor.beat import next_beat
from sttd.supervisor.vitals import GoneError, Probe

FULL_EVERY_S = 1.0  # threads, descriptors and the peak; RSS alone in between
FULL_APART_S = 0.1  # ... and after every job, but for jobs that are shorter than this
LATEST = 64  # samples kept of each worker, as evidence
GROWTH_OVER_S = 0.004  # shorter spans tell nothing of growth
EARLY = 0.3  # of its interval: so much before its time one is looked at along with others


class Watched:
    """A worker under observation."""

    def __init__(self, worker: str, probe: Probe) -> None:
        self.worker = worker
        self.probe = probe
        self.vitals = Vitals()
        self.growth = 0.0  # bytes a second
        self.at = 0.0
        self.full_at = 0.0
        self.due = 0.0
        self.early = 0.0  # seconds before `due` from which on it may be looked at
        self.latest: deque[tuple[float, int]] = deque(maxlen=LATEST)


class Sampling:
    """`on_sample(worker, vitals)` gets each sample that says something new, and one a second.

    `is_busy(worker)` tells whether it has a job. An RSS that is what it was, as most are, has been
    judged.
    """

    def __init__(
        self,
        on_sample: Callable[[str, Vitals], None],
        is_busy: Callable[[str], bool],
        policy: RecyclePolicy,
    ) -> None:
        self.policy = policy
        self._on_sample = on_sample
        self._is_busy = is_busy
        self._watched: dict[str, Watched] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, worker: str, pid: int) -> None:
        """From now on look at this process."""
        try:
            watched = Watched(worker, Probe(pid))
        except GoneError:
            return
        self._watched[worker] = watched
        self._sample(watched)
        self._plan()

    def remove(self, worker: str) -> None:
        """It is gone."""
        watched = self._watched.pop(worker, None)
        if watched is not None:
            watched.probe.close()

    def look(self, worker: str) -> None:
        """Take a sample now, whole unless one has just been taken: a job has ended."""
        watched = self._watched.get(worker)
        if watched is not None:
            if self._loop.time() - watched.full_at >= FULL_APART_S:
                watched.full_at = 0.0
            self._sample(watched)
            self._plan()

    def latest(self, worker: str) -> tuple[tuple[float, int], ...]:
        """The latest samples: seconds before now, RSS in bytes."""
        watched = self._watched.get(worker)
        now = self._loop.time()
        samples = watched.latest if watched else ()
        return tuple((round(at - now, 3), rss) for at, rss in samples)

    def pss_bytes(self, worker: str) -> int:
        """Proportional set size, read now; 0 for an unknown worker."""
        watched = self._watched.get(worker)
        return watched.probe.pss_bytes() if watched else 0

    def close(self) -> None:
        """Stop looking."""
        for worker in list(self._watched):
            self.remove(worker)
        self._plan()

    def _plan(self) -> None:
        """Wake when the first of them is due; one timer for all."""
        due = min((watched.due for watched in self._watched.values()), default=math.inf)
        if self._timer is not None:
            if due == self._timer.when():
                return
            self._timer.cancel()
        self._timer = None if due == math.inf else self._loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        for watched in list(self._watched.values()):
            if watched.due - watched.early <= now and watched.worker in self._watched:
                self._sample(watched)
        self._plan()

    def _sample(self, watched: Watched) -> None:
        now = self._loop.time()
        watched.due = math.inf
        try:
            vitals = self._read(watched, now)
        except GoneError:
            return  # its pidfd will tell
        span = now - watched.at
        if watched.at and span >= GROWTH_OVER_S:
            watched.growth = (vitals.rss_bytes - watched.vitals.rss_bytes) / span
        same, watched.vitals, watched.at = vitals is watched.vitals, vitals, now
        watched.latest.append((now, vitals.rss_bytes))
        if not same:
            self._on_sample(watched.worker, vitals)
        busy = self._is_busy(watched.worker)
        delay = next_sample_s(self.policy, vitals, watched.growth, busy=busy)
        if delay < self.policy.sample_every:
            watched.due, watched.early = self._loop.time() + delay, EARLY * delay
        else:
            watched.due, watched.early = next_beat(self._loop.time(), delay), 0.0

    def _read(self, watched: Watched, now: float) -> Vitals:
        if now >= next_beat(watched.full_at, FULL_EVERY_S):
            watched.full_at = now
            return watched.probe.vitals()
        rss = watched.probe.rss_bytes()
        if rss == watched.vitals.rss_bytes:
            return watched.vitals
        peak = max(watched.vitals.peak_rss_bytes, rss)
        return msgspec.structs.replace(watched.vitals, rss_bytes=rss, peak_rss_bytes=peak)
