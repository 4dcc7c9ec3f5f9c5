"""What engines and the libraries below them print, told as events: so much and no more.

Every job may have MOST_LINES told, and so may each of the other processes within WINDOW_S. What is
beyond that is dropped and counted, and the count is told once, at the end. Decides nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sttd.core.workers import Worker
from sttd.log import Log

MOST_LINES = 200  # with the 2,000 bytes of a line: 400 kB of log for a job, at the very most
WINDOW_S = 60.0  # where there is no job whose end could be waited for
# A job's attempt is over with these; what its worker prints then is no longer the job's.
ENDS = frozenset({"job.succeeded", "job.failed", "job.cancelled", "job.requeued", "job.deferred"})


class _Talk:
    """What was told of one job or process."""

    __slots__ = ("about", "dropped", "timer", "told")

    def __init__(self, about: Mapping[str, object], timer: asyncio.TimerHandle | None) -> None:
        self.about = about
        self.timer = timer
        self.told = 0
        self.dropped = 0


class Chatter:
    """One for the daemon's life, on its event loop; a listener of the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._talks: dict[tuple[object, object], _Talk] = {}  # by job and worker
        log.listen(self._heard)

    def printed(self, line: str, worker: Worker | None = None) -> None:
        """A line came from the worker, or from a process that is none."""
        about: dict[str, object] = {}
        if worker is not None:
            about = {"worker": worker.id, "pid": worker.pid}
            if worker.run is not None:
                about["job"] = worker.run.job.id
        talk = self._talk(about)
        if talk.told < MOST_LINES:
            talk.told += 1
            self._log.event("worker.output", **about, line=line)
        else:
            talk.dropped += 1

    def _talk(self, about: Mapping[str, object]) -> _Talk:
        key = about.get("job"), about.get("worker")
        talk = self._talks.get(key)
        if talk is None:
            timer = None
            if "job" not in about:
                loop = asyncio.get_running_loop()
                timer = loop.call_later(WINDOW_S, self._over, *key)
            talk = self._talks[key] = _Talk(about, timer)
        return talk

    def _heard(self, name: str, record: Mapping[str, object]) -> None:
        if name in ENDS:
            self._over(record["job"])
        elif name == "worker.exited":
            self._over(None, record["worker"])

    def _over(self, job: object, worker: object = None) -> None:
        """Say what was left out, and forget it; `worker` None: whichever had the job."""
        for key in [k for k in self._talks if k[0] == job and worker in (None, k[1])]:
            talk = self._talks.pop(key)
            if talk.timer is not None:
                talk.timer.cancel()
            if talk.dropped:
                text = f"{talk.dropped} more lines were left out"
                self._log.event("worker.output", **talk.about, line=text, dropped=talk.dropped)
