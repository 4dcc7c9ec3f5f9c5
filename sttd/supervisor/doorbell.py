"""Rings when something changes in the inbox: watchfiles in a thread, as a hint and nothing more.

It loses overflows silently, ends at a name that is not UTF-8, and reports a moved-in folder
without its files. So: it is made anew after any error, with a ring because something may have
been missed; its paths are only hints of where to look first; and the scan is the truth.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from watchfiles._rust_notify import RustNotify  # documented: watchfiles.helpmanual.io/api/rust

STEP_MS = 10  # how long it must have been quiet; each step costs a wake-up (0.4 % of a core)
DEBOUNCE_MS = 100  # ... but a ring comes at least this often while it never is
_ASK_MS = 1000  # how often it is asked whether the folder is still the same
_RETRY_S = (0.1, 30.0)  # before it is made anew: at first, and at most
_MAX_HINTS = 1000
_DELETED = 3  # watchfiles.Change.deleted: also what our own renames look like


class Doorbell:
    """Watches `path`; `on_ring` is called in the loop's thread. `on_error` gets a reason, once."""

    def __init__(
        self,
        path: Path,
        on_ring: Callable[[], None],
        on_error: Callable[[str], None] = lambda _reason: None,
        *,
        recursive: bool = True,
    ) -> None:
        self._path = path
        self._on_ring = on_ring
        self._on_error = on_error
        self._recursive = recursive
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._again = threading.Event()
        self._lock = threading.Lock()
        self._hints: set[str] = set()
        self._told = ""

    def start(self) -> None:
        """Begin to watch; rings as soon as it does. Call inside the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
        self._thread.start()

    def renew(self) -> None:
        """Watch afresh, now."""
        self._again.set()

    def hints(self) -> list[str]:
        """Paths beneath the inbox that have changed since the last call, as far as is known."""
        with self._lock:
            hints, self._hints = self._hints, set()
        return list(hints)

    def stop(self) -> None:
        """End the thread; may be repeated."""
        self._stop.set()
        self._again.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        pause = _RETRY_S[0]
        while not self._stop.is_set():
            self._again.clear()
            try:
                self._watch()
                pause = _RETRY_S[0]
            except Exception as error:  # noqa: BLE001 - whatever it is, the scan goes on without
                self._tell(f"{type(error).__name__}: {error}")
                self._ring()
                self._again.wait(pause)
                pause = min(pause * 2, _RETRY_S[1])

    def _watch(self) -> None:
        """Until told to end or to begin anew; raises whatever watchfiles does.

        It does not notice that the folder itself was moved away or replaced: that is asked for.
        """
        watched = self._identity()
        with self._watcher() as watcher:
            self._ring()
            while not self._again.is_set() and self._identity() == watched:
                changes = watcher.watch(DEBOUNCE_MS, STEP_MS, _ASK_MS, self._again)
                if isinstance(changes, set):
                    self._take(changes)
        self._ring()

    def _watcher(self) -> RustNotify:
        """Told to bear closed folders it bears a used-up limit of watches, too: without a word."""
        arguments = ([str(self._path)], False, False, 300, self._recursive)
        try:
            return RustNotify(*arguments, False)
        except PermissionError:  # somebody has put a closed folder there
            return RustNotify(*arguments, True)

    def _identity(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_dev, status.st_ino

    def _take(self, changes: set[tuple[int, str]]) -> None:
        prefix = f"{self._path}/"
        paths = {
            path.removeprefix(prefix)
            for change, path in changes
            if change != _DELETED and path.startswith(prefix)
        }
        if paths:
            with self._lock:
                self._hints |= set(list(paths)[: _MAX_HINTS - len(self._hints)])
            self._ring()

    def _ring(self) -> None:
        self._call(self._on_ring)

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            self._call(lambda: self._on_error(reason))

    def _call(self, function: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop was closed before us
            self._stop.set()
