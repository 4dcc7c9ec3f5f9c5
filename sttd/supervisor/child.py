"""A child process held by its pidfd: signalled without races, reaped without blocking.

Decides nothing. Works for processes started here and for orphans adopted as a subreaper alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import ClassVar


class Child:
    """A process of ours. `on_exit(exit_code, signal)` comes once, after it was reaped."""

    held: ClassVar[set[int]] = set()  # pids of all children that somebody holds

    def __init__(self, pid: int, on_exit: Callable[[int | None, int | None], None]) -> None:
        self.pid = pid
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._fd = os.pidfd_open(pid)
        self._loop.add_reader(self._fd, self._exited)
        self.held.add(pid)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that is already gone does not mind."""
        if self._fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def _exited(self) -> None:
        fd, self._fd = self._fd, -1
        self._loop.remove_reader(fd)
        try:
            info = os.waitid(os.P_PIDFD, fd, os.WEXITED)
        except ChildProcessError:  # reaped by somebody else: its status is unknown
            info = None
        os.close(fd)
        self.held.discard(self.pid)
        if info is None:
            self._on_exit(None, None)
        elif info.si_code == os.CLD_EXITED:
            self._on_exit(info.si_status, None)
        else:
            self._on_exit(None, info.si_status)


def reap_strays() -> int:
    """Reap dead children that nobody holds (orphans of a template that died); how many."""
    count = 0
    for pid in _strays():
        with contextlib.suppress(ChildProcessError):
            count += os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    return count


def kill_strays() -> None:
    """End children that nobody holds: forked for us, and never introduced."""
    for pid in _strays():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    reap_strays()


def _strays() -> list[int]:
    path = f"/proc/self/task/{os.getpid()}/children"
    with open(path) as file:
        return [pid for pid in map(int, file.read().split()) if pid not in Child.held]
