"""Watches a process from outside: its RSS every millisecond, and when it was gone.

`statm` of a process reads as zeros from the moment the kernel takes its memory away, which is
right after SIGKILL has reached it; the pidfd fires when it can be reaped, after the pages are
freed. Where it is allowed to, the observer runs at real-time priority: it is woken at once
however busy the machine is.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY_S = 0.001


class Seen(NamedTuple):
    """Nanoseconds of the monotonic clock, None where it did not happen; bytes."""

    crossed_ns: int | None  # the first look above the ceiling
    killed_ns: int | None  # the first look without memory
    gone_ns: int | None  # the pidfd fired
    peak: int


class Line(NamedTuple):
    """A line of a trace."""

    pid: int
    at_ns: int
    rss: int


def real_time() -> bool:
    """Ask for real-time priority, not to be inherited; whether it was granted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(10))
    except PermissionError:
        return False
    return True


def watch(pid: int, ceiling: int, timeout_s: float) -> Seen:
    """Look until it is gone or the time is over."""
    crossed = killed = None
    peak = 0
    end = time.monotonic() + timeout_s
    pidfd = os.pidfd_open(pid)
    statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        while time.monotonic() < end:
            if poll.poll(round(EVERY_S * 1000)):
                gone = time.monotonic_ns()
                return Seen(crossed, killed or gone, gone, peak)
            rss = _rss(statm)
            now = time.monotonic_ns()
            peak = max(peak, rss)
            if crossed is None and rss > ceiling:
                crossed = now
            if killed is None and rss == 0:
                killed = now
    finally:
        os.close(pidfd)
        os.close(statm)
    return Seen(crossed, killed, None, peak)


def _rss(statm: int) -> int:
    try:
        return int(os.pread(statm, 128, 0).split()[1]) * PAGE
    except (ProcessLookupError, IndexError):
        return 0


def trace(path: Path) -> list[Line]:
    """The whole lines of a trace so far."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    return [Line(*map(int, line.split())) for line in whole.splitlines()]


def first_line(path: Path, timeout_s: float, other_than: int = 0) -> Line | None:
    """The first line of another process than this, once it is there."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = next((line for line in trace(path) if line.pid != other_than), None)
        if found is not None:
            return found
        time.sleep(0.002)
    return None
