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
    """A process of ours. `on_exit(exit_code, signal)` comes once, after it was reaped.

    Raises ProcessLookupError when it is gone; also where no descriptor is left to hold it by:
    whoever cannot be held is ended.
    """

    held: ClassVar[set[int]] = set()  # pids of all children that somebody holds

    def __init__(self, pid: int, on_exit: Callable[[int | None, int | None], None]) -> None:
        self.pid = pid
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise
        except OSError as error:
            os.kill(pid, signal.SIGKILL)  # not reaped yet: the pid is its own
            raise ProcessLookupError(error.errno, f"it cannot be held: {error}") from error
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


class Strays:
    """Reaps dead children that nobody holds: forked for us by a template that died meanwhile.

    A child that was only just forked may be held in a moment, so it is reaped only when it was
    found dead the last time as well.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def sweep(self) -> int:
        """Call it now and then; how many were reaped."""
        if not _somebody_died():
            self._seen = set()
            return 0
        found = {pid for pid in _children() if pid not in Child.held}
        count = 0
        for pid in found & self._seen:
            with contextlib.suppress(ChildProcessError):
                count += os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
        self._seen = found
        return count


def _somebody_died() -> bool:
    """Whether any child is dead and not reaped; one call where the list of children takes six."""
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]
