"""Ends a process by SIGKILL before its Nth change to the disk, and says how many there are.

Counted are fsync, rename, mkdir, unlink, rmdir, write and link of our own code, and the ledger's
commits (before and after each). The kernel keeps what was written, as after a real SIGKILL.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from sttd.supervisor import beneath
from sttd.supervisor.ledger.store import Store

_CALLS = ("fsync", "rename", "mkdir", "unlink", "rmdir", "write", "link")


class Cuts:
    """Counts points in this process; at number `at` (from 1) the process is killed."""

    def __init__(self, at: int | None) -> None:
        self._at = at
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.points = 0

    def point(self) -> None:
        with self._lock:
            self.points = next(self._numbers)
            if self.points == self._at:
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """For good: only in a child process."""
        for name in _CALLS:
            setattr(os, name, self._before(getattr(os, name)))
        beneath._renameat2 = self._before(beneath._renameat2)
        run = Store.run

        def counted(store: Store, name: str, /, **bindings: Any) -> int:
            if name == "commit":
                self.point()
            changed = run(store, name, **bindings)
            if name == "commit":
                self.point()
            return changed

        Store.run = counted  # type: ignore[method-assign]  # in a child

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.point()
            return call(*args, **kwargs)

        return counted


def live(story: Callable[[], Coroutine[Any, Any, None]], at: int | None) -> int | None:
    """Run the story in a child that is killed at point `at`; None when it was.

    Otherwise how many points it passed. Raises AssertionError when it failed by itself.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            cuts = Cuts(at)
            write = os.write
            cuts.install()
            asyncio.run(story())
            write(writer, b"%d" % cuts.points)
            status = 0
        except BaseException:  # noqa: BLE001 - told to the parent by the exit status
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as told:
        points = told.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0, "the story failed in the child; see its traceback"
    return int(points)
