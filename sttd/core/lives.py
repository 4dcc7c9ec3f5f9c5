"""The record of each worker's life: how it ended, by whose decision, how soon it was replaced.

Shapes records; decides nothing. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from signal import Signals

import msgspec

from sttd.core.commands import Bury
from sttd.core.recycling import RecyclePolicy
from sttd.core.workers import Worker

MIB = 1 << 20

OPERATORS = frozenset({"requested", "cancelled", "reloaded", "scaled", "shutdown"})


def life_of(worker: Worker, cause: str, signal: int | None, now: float) -> Bury:
    """The life of a worker that has just ended; its replacement is not known yet."""
    decider = "operator" if cause in OPERATORS else "policy"
    if worker.starved:
        decider = "kernel"
    elif cause == "crashed":
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


def how_it_ended(policy: RecyclePolicy, reason: str, code: int | None, signal: int | None) -> str:
    """In words, how a worker ended while it held a job: what a job's error says of it."""
    match reason:
        case "crashed" if signal is not None:
            return f"died by signal {named(signal)}"
        case "crashed":
            return f"exited with code {code}"
        case "rss_ceiling":
            return f"grew past {policy.rss_ceiling // MIB} MiB (recycle.rss_ceiling), was killed"
        case "stalled":
            return f"made no progress for {policy.stall_timeout:g} s, was killed"
        case "job_timeout":
            return "worked for longer than recycle.job_timeout allows, was killed"
        case _:
            return f"was ended: {reason}"


def named(signal: int) -> str:
    """`11 (SIGSEGV)`; the bare number of one that has no name, such as a real-time signal."""
    try:
        return f"{signal} ({Signals(signal).name})"
    except ValueError:
        return str(signal)


class Vacancies:
    """Places whose holders cannot take jobs any more; at most one for each slot.

    A place is filled when another worker can take jobs in its stead, which with a standby is at
    once: long before the old one has gone.
    """

    def __init__(self) -> None:
        self._empty: deque[tuple[str, float]] = deque()
        self._filled: dict[str, float] = {}  # worker -> seconds its place was empty
        self._ended: dict[str, Bury] = {}  # whose place is still empty

    def open(self, worker: str, now: float) -> None:
        """Its place is empty from now on."""
        self._empty.append((worker, now))

    def end(self, life: Bury) -> list[Bury]:
        """The worker is gone; its record, if that is complete."""
        latency = self._filled.pop(life.worker, None)
        if latency is None and any(worker == life.worker for worker, _ in self._empty):
            self._ended[life.worker] = life
            return []
        return [msgspec.structs.replace(life, replacement_latency_s=latency)]

    def fill(self, missing: int, now: float) -> list[Bury]:
        """All but `missing` places are held again; the records that are complete by that."""
        complete = []
        while len(self._empty) > missing:
            worker, since = self._empty.popleft()
            if (life := self._ended.pop(worker, None)) is None:
                self._filled[worker] = now - since
            else:
                complete.append(msgspec.structs.replace(life, replacement_latency_s=now - since))
        return complete
