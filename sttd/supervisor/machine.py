"""What the machine (or the cgroup the daemon lives in) has left. Reads only; decides nothing."""

from __future__ import annotations

import functools
from pathlib import Path

import psutil

from sttd.config.units import budget_bytes
from sttd.core.events import RoomSampled
from sttd.supervisor.hierarchy import own_folder

PRESSURE = Path("/proc/pressure/memory")


def memory_room(memory_budget: str) -> RoomSampled:
    """Memory available now and the budget for all workers, in bytes."""
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    folder = _own_folder()
    if folder is not None:
        limit = _number(folder / "memory.max")
        used = _number(folder / "memory.current")
        if limit is not None and used is not None and limit < total:
            total = limit
            available = min(available, max(0, limit - used))
    return RoomSampled(available, budget_bytes(memory_budget, total), _pressure(folder))


def resident_bytes() -> int:
    """The daemon's own RSS in bytes."""
    return int(psutil.Process().memory_info().rss)


_own_folder = functools.cache(own_folder)  # it stays where it is


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no number
        return None


def _pressure(folder: Path | None) -> float:
    """Percent of the last 10 s in which something here waited for memory; 0 where unknown.

    The first line reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" (kernel: psi.rst).
    """
    path = folder / "memory.pressure" if folder else PRESSURE
    try:
        return float(path.read_text().split()[1].removeprefix("avg10="))
    except (OSError, ValueError, IndexError):  # a kernel without PSI
        return 0.0
