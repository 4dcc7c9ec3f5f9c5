"""The record of each worker's life: how it ended, by whose decision, how soon it was replaced.

Shapes records; decides nothing. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import deque

import msgspec

from sttd.core.commands import Bury
from sttd.core.workers import Worker

OPERATORS = frozenset({"requested", "cancelled", "reloaded", "scaled", "shutdown"})


def life_of(worker: Worker, cause: str, signal: int | None, now: float) -> Bury:
    """The life of a worker that has just ended; its replacement is not known yet."""
    decider = "operator" if cause in OPERATORS else "policy"
    if cause == "crashed":
        decider = "kernel" if signal is not None else "itself"
    grown = worker.tidy - worker.base
    return Bury(
        worker=worker.id,
        pid=worker.pid or 0,
        cause=cause,
        decider=decider,
        rss_bytes=worker.vitals.rss_bytes,
        peak_rss_bytes=worker.vitals.peak_rss_bytes,
        jobs=worker.requests,
        leak_per_job=grown / worker.requests if worker.requests else None,
        age_s=now - worker.started,
        kill_latency_s=None if worker.decided is None else now - worker.decided,
        replacement_latency_s=None,
    )


class Vacancies:
    """Places whose holders have ended; at most one for each slot."""

    def __init__(self) -> None:
        self._open: deque[tuple[float, Bury]] = deque()

    def open(self, since: float, life: Bury) -> None:
        """A place is empty (or about to be) since then."""
        self._open.append((since, life))

    def fill(self, missing: int, now: float) -> list[Bury]:
        """All but `missing` places are held again: the complete records of their last holders."""
        filled = []
        while len(self._open) > missing:
            since, life = self._open.popleft()
            filled.append(msgspec.structs.replace(life, replacement_latency_s=now - since))
        return filled
