"""How many jobs may run at once in the memory there is. Decides only.

The budget bounds the ceilings of running workers together; the machine must moreover have room
for one more worker to grow.
"""

from __future__ import annotations

import msgspec

MIB = 1 << 20
# Left to the rest of the machine, whatever the budget says; below it no job starts.
RESERVE = 128 * MIB
# /proc/pressure/memory, some avg10: from here on half the jobs, from twice that on one at a time.
PRESSED = 20.0  # percent


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Memory now, in bytes: what is available, and the budget for all workers together."""

    available: int
    budget: int
    pressure: float = 0.0  # percent of the last 10 s in which something waited for memory (PSI)


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: `jobs` at once, and why fewer than wished ("" when not fewer)."""

    jobs: int
    reason: str = ""


def admit(room: Room | None, *, workers: int, ceiling: int, grown: int) -> Admission:
    """Jobs that may run at once. `grown` is the RSS of all workers together, bytes.

    What running workers already hold counts as room, because it is theirs.
    """
    if room is None or not ceiling:
        return Admission(jobs=workers)
    by_budget = max(1, room.budget // ceiling)
    free = room.available + grown - RESERVE
    # a ceiling larger than the machine still lets one job run while there is any room at all
    by_room = max(int(free > 0), free // ceiling)
    by_pressure = workers
    if room.pressure >= PRESSED:
        by_pressure = 1 if room.pressure >= 2 * PRESSED else max(1, workers // 2)
    jobs = min(workers, by_budget, by_room, by_pressure)
    if jobs == workers:
        return Admission(jobs=jobs)
    if by_pressure == jobs:
        text = f"memory pressure {room.pressure:.0f} %: {jobs} of {workers} jobs at once"
    elif by_room < by_budget:
        text = f"memory available {room.available // MIB} MiB: {jobs} of {workers} jobs at once"
    else:
        text = f"memory_budget {room.budget // MIB} MiB: {jobs} of {workers} jobs at once"
    return Admission(jobs=jobs, reason=text)
