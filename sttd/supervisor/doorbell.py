"""Rings when something changes in the inbox: inotify, as a hint and nothing more.

Notifications get lost, and a folder that is moved in is not told with its files. So: everything
is watched anew after any error and any change of the folders themselves, with a ring because
something may have been missed; paths are only hints of where to look first; and the scan is the
truth. Costs nothing while nothing happens, but for a look each second whether the inbox is still
the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from sttd.supervisor import inotify, names
from sttd.supervisor.beat import next_beat
from sttd.supervisor.inotify import Inotify

PAUSE_S = 0.01  # after events, before the next are read: what comes in a burst is read at once
ASK_S = 1.0  # how often it is asked whether the folder is still the same
_RETRY_S = (0.1, 30.0)  # before it is watched anew: at first, and at most
_MAX_HINTS = 1000
_MASK = (
    inotify.CLOSE_WRITE
    | inotify.CREATE  # hard links and O_TMPFILE come by this alone
    | inotify.MOVED_TO
    | inotify.ATTRIB  # what could not be read may be readable now
    | inotify.DELETE_SELF
    | inotify.MOVE_SELF
    | inotify.ONLYDIR
    | inotify.EXCL_UNLINK
)
_ANEW = inotify.Q_OVERFLOW | inotify.UNMOUNT | inotify.MOVE_SELF
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES})  # of a folder beneath: not ours


class Doorbell:
    """Watches `path`; `on_ring` is called in the loop. `on_error` gets each reason, once."""

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
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._hints: set[str] = set()
        self._told = ""

    def start(self) -> None:
        """Begin to watch; rings as soon as it does. Call inside the running loop."""
        self._task = asyncio.create_task(self._keep_watching())

    def renew(self, *, recursive: bool | None = None) -> None:
        """Watch afresh, now; the folders beneath, too, or no more, where that is said."""
        if recursive is not None:
            self._recursive = recursive
        self._again.set()

    def hints(self) -> list[str]:
        """Paths beneath the inbox that have changed since the last call, as far as is known."""
        hints, self._hints = self._hints, set()
        return list(hints)

    async def stop(self) -> None:
        """Watch no more; may be repeated."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep_watching(self) -> None:
        pause = _RETRY_S[0]
        while True:
            self._again.clear()
            try:
                await self._watch()
                pause = _RETRY_S[0]
            except OSError as error:  # whatever it is, the scan goes on without
                self._tell(f"{type(error).__name__}: {error}")
                self._on_ring()
                await self._told_to_begin_anew(pause)
                pause = min(pause * 2, _RETRY_S[1])

    async def _watch(self) -> None:
        """Until it is to begin anew. Raises OSError."""
        identity = self._identity()
        watches = await asyncio.to_thread(Watches, str(self._path), recursive=self._recursive)
        loop = asyncio.get_running_loop()
        try:
            self._on_ring()
            loop.add_reader(watches.inotify.fileno(), self._readable, watches)
            while not await self._told_to_begin_anew(next_beat(loop.time(), ASK_S) - loop.time()):
                if self._identity() != identity:
                    return
        finally:
            if self._pause is not None:
                self._pause.cancel()
            loop.remove_reader(watches.inotify.fileno())
            watches.inotify.close()

    async def _told_to_begin_anew(self, within_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._again.wait()
        return self._again.is_set()

    def _identity(self) -> tuple[int, int]:
        """Notifications tell neither that another was mounted here nor that a parent was moved."""
        status = os.stat(self._path)
        return status.st_dev, status.st_ino

    def _readable(self, watches: Watches) -> None:
        """Take what there is, then be deaf for a moment: the kernel keeps it for us."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(watches.inotify.fileno())
        self._pause = loop.call_later(
            PAUSE_S, loop.add_reader, watches.inotify.fileno(), self._readable, watches
        )
        try:
            changed = watches.read()
        except OSError as error:
            self._tell(f"{type(error).__name__}: {error}")
            changed = None
        if changed is None:
            self._again.set()
            return
        self._hints.update(changed[: _MAX_HINTS - len(self._hints)])
        if changed:
            self._on_ring()

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            self._on_error(reason)


class Watches:
    """An inotify instance and the folder of each of its watches. Raises OSError when made."""

    def __init__(self, root: str, *, recursive: bool) -> None:
        self.inotify = Inotify()
        self._root = root
        self._recursive = recursive
        self._folders: dict[int, str] = {}  # watch -> path beneath the root, "" or "a/b/"
        try:
            self._folders[self.inotify.add(root, _MASK)] = ""
            if recursive:
                self._below("", 1)
        except BaseException:
            self.inotify.close()
            raise

    def read(self) -> list[str] | None:
        """Paths that have changed; None when all must be watched anew. Raises OSError."""
        changed: dict[str, None] = {}
        for event in self.inotify.read():
            folder = self._folders.get(event.watch)
            if event.mask & _ANEW or (folder == "" and event.mask & inotify.DELETE_SELF):
                return None
            if event.mask & inotify.IGNORED:
                self._folders.pop(event.watch, None)
            elif folder is not None and event.name:
                changed[folder + event.name] = None
                if self._recursive and event.mask & inotify.ISDIR:
                    if event.mask & inotify.MOVED_TO:
                        return None  # who knows how much is in it
                    if event.mask & inotify.CREATE:  # what is in it by now, the scan finds
                        self._follow(folder + event.name, folder.count("/") + 1)
        return list(changed)

    def _follow(self, path: str, depth: int) -> None:
        if depth > names.MAX_DEPTH or names.is_service_folder(path.rpartition("/")[2]):
            return
        try:
            watch = self.inotify.add(f"{self._root}/{path}", _MASK)
        except OSError as error:
            if error.errno in _GONE:
                return
            raise
        self._folders[watch] = path + "/"
        self._below(path + "/", depth + 1)

    def _below(self, prefix: str, depth: int) -> None:
        try:
            with os.scandir(f"{self._root}/{prefix}") as entries:
                found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            if error.errno in _GONE and prefix:
                return
            raise
        for name in found:
            self._follow(prefix + name, depth)
