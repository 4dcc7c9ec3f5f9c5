"""How many jobs may run at once in the memory there is. Decides only.

The budget bounds the ceilings of running workers together; the machine must moreover have room
for one more worker to grow.
"""

from __future__ import annotations

from typing import Literal

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
    """The answer: `jobs` at once, and why fewer than wished ("" when not fewer).

    `spare`: the budget bears processes that stand by beside the jobs' ceilings.
    """

    jobs: int
    reason: str = ""
    cause: Literal["", "pressure", "available", "budget"] = ""
    spare: bool = True


def admit(
    room: Room | None, *, workers: int, ceiling: int, grown: int, waiting: int = 0
) -> Admission:
    """Jobs that may run at once. `grown` is the RSS of all workers together, bytes.

    What running workers already hold counts as room, because it is theirs. `waiting` is what
    the processes that stand by take, bytes.
    """
    if room is None or not ceiling:
        return Admission(jobs=workers)
    by_budget = max(1, room.budget // ceiling)
    spare = room.budget >= min(workers, by_budget) * ceiling + waiting
    free = room.available + grown - RESERVE
    # a ceiling larger than the machine still lets one job run while there is any room at all
    by_room = max(int(free > 0), free // ceiling)
    by_pressure = workers
    if room.pressure >= PRESSED:
        by_pressure = 1 if room.pressure >= 2 * PRESSED else max(1, workers // 2)
    jobs = min(workers, by_budget, by_room, by_pressure)
    if jobs == workers:
        return Admission(jobs=jobs, spare=spare)
    cause: Literal["pressure", "available", "budget"]
    if by_pressure == jobs:
        cause, figure = "pressure", f"memory pressure {room.pressure:.0f} %"
    elif by_room < by_budget:
        cause, figure = "available", f"memory available {room.available // MIB} MiB"
    else:
        cause, figure = "budget", f"memory_budget {room.budget // MIB} MiB"
    text = f"{figure}: {jobs} of {workers} jobs at once"
    return Admission(jobs=jobs, reason=text, cause=cause, spare=spare)


def settled(new: Admission, old: Admission) -> Admission:
    """The new answer, in the old words where only the figure moved: said once, not every second."""
    if (new.jobs, new.cause) == (old.jobs, old.cause):
        return msgspec.structs.replace(new, reason=old.reason)
    return new
