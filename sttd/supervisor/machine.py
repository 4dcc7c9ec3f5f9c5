"""What the machine (or the cgroup the daemon lives in) has left. Reads only; decides nothing."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import psutil

from sttd.config.units import budget_bytes
from sttd.core.events import RoomSampled
from sttd.supervisor.hierarchy import own_folder

PRESSURE = "/proc/pressure/memory"
MEMORY = "/proc/meminfo"


def memory_room(memory_budget: str) -> RoomSampled:
    """Memory available now and the budget for all workers, in bytes."""
    total, available = _machine_bytes()
    folder = _own_folder()
    if folder is not None:
        limit = _number(f"{folder}/memory.max")
        used = _number(f"{folder}/memory.current")
        if limit is not None and used is not None and limit < total:
            total = limit
            available = min(available, max(0, limit - used))
    return RoomSampled(available, budget_bytes(memory_budget, total), _pressure(folder))


def resident_bytes() -> int:
    """The daemon's own RSS in bytes."""
    return int(psutil.Process().memory_info().rss)


_own_folder = functools.cache(own_folder)  # it stays where it is


def _machine_bytes() -> tuple[int, int]:
    """In all, and available: what psutil says, in a third of the time, for it is asked each second.

    The lines read "MemAvailable:   24684084 kB" (kernel: proc.rst).
    """
    try:
        lines = {line.partition(b":")[0]: line for line in _read(MEMORY).splitlines()[:3]}
        total, available = (int(lines[key].split()[1]) for key in (b"MemTotal", b"MemAvailable"))
    except (OSError, ValueError, IndexError, KeyError):
        memory = psutil.virtual_memory()
        return memory.total, memory.available
    return total * 1024, min(available, total) * 1024


def _read(path: str) -> bytes:
    """What a small file of the kernel's says. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def _number(path: str) -> int | None:
    try:
        return int(_read(path))
    except (OSError, ValueError):  # "max" is no number
        return None


def _pressure(folder: Path | None) -> float:
    """Percent of the last 10 s in which something here waited for memory; 0 where unknown.

    The first line reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" (kernel: psi.rst).
    """
    path = f"{folder}/memory.pressure" if folder else PRESSURE
    try:
        return float(_read(path).split(None, 2)[1].removeprefix(b"avg10="))
    except (OSError, ValueError, IndexError):  # a kernel without PSI
        return 0.0
