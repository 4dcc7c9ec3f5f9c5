"""Forked children for tests: what they tell, how they end, and that none is left over."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psutil

DEADLINE_S = 60.0


class Ending(NamedTuple):
    """How a child ended: one of the two is None."""

    exit_code: int | None
    signal: int | None


class Child:
    """A forked process that tells JSON values over a pipe."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._pipe = pipe
        self._rest = b""
        self._ending: Ending | None = None

    def told(self) -> Any:
        """The next value that the child tells. Fails when it ends or is silent for too long."""
        end = time.monotonic() + DEADLINE_S
        while b"\n" not in self._rest:
            self._wait(self._pipe, end, "tells nothing")
            data = os.read(self._pipe, 1 << 16)
            assert data, f"the child ended without telling: {self.ended()}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def ended(self) -> Ending:
        """How the child ended; waits for it."""
        if self._ending is None:
            self._wait(self._pidfd, time.monotonic() + DEADLINE_S, "does not end")
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self._ending = Ending(code, None) if code >= 0 else Ending(None, -code)
        return self._ending

    def lives(self) -> bool:
        return self._ending is None and not select.select([self._pidfd], [], [], 0)[0]

    def close(self) -> None:
        if self.lives():
            os.kill(self.pid, signal.SIGKILL)
        self.ended()
        os.close(self._pidfd)
        os.close(self._pipe)

    def _wait(self, fd: int, end: float, what: str) -> None:
        ready, _, _ = select.select([fd], [], [], max(end - time.monotonic(), 0))
        assert ready, f"the child {self.pid} {what}"


@contextlib.contextmanager
def forked(work: Callable[[Callable[[Any], None]], None]) -> Iterator[Child]:
    """Run `work(tell)` in a child; it exits with 0 when `work` returns, with 99 when it raises."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _live(work, writing)
    os.close(writing)
    child = Child(pid, reading)
    try:
        yield child
    finally:
        child.close()


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a child of its own, by way of JSON."""
    with forked(lambda tell: tell(work())) as child:
        value = child.told()
        assert child.ended() == Ending(0, None)
        return value


def _live(work: Callable[[Callable[[Any], None]], None], pipe: int) -> None:
    code = 99
    try:
        faulthandler.disable()  # crashes are meant here
        signal.setitimer(signal.ITIMER_REAL, 0)  # pytest-timeout's is the parent's
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work(lambda value: _write(pipe, json.dumps(value).encode() + b"\n"))
        code = 0
    except BaseException:  # noqa: BLE001 (a child must never return into pytest)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _write(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def rss_bytes() -> int:
    """This process's resident memory now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def is_dead(pid: int) -> bool:
    """Whether it is gone; that nobody has reaped it yet is not our business."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
