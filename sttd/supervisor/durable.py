"""Making things durable, and saying it when that fails. Every fsync of files goes through here.

Two kinds of trouble are told apart: `StorageBroken` (EIO: what was written may be gone and a
second fsync would lie, so the daemon must stop) and `StorageFull` (no space, over quota, mounted
read-only: it may pass). Knows nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_BROKEN = frozenset({errno.EIO, errno.EUCLEAN})


class StorageBroken(Exception):  # noqa: N818 - a state of the machine, not a mistake
    """The disk did not keep what it was given; stop, and start again."""


class StorageFull(Exception):  # noqa: N818 - a state of the machine, not a mistake
    """The disk takes nothing more just now: full, over quota, or read-only."""


@contextlib.contextmanager
def storage(what: str) -> Iterator[None]:
    """Turn the disk's own errors into StorageBroken and StorageFull; others pass as they are."""
    try:
        yield
    except OSError as error:
        if error.errno in _BROKEN:
            remedy = "check the disk, then start sttd again"
            raise StorageBroken(f"{what}: {error}; {remedy}") from error
        if error.errno in _FULL:
            raise StorageFull(f"{what}: {error}") from error
        raise


def sync(descriptor: int, what: str) -> None:
    """Fsync; `what` is said of the file in the message. Raises StorageBroken or StorageFull."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        with storage(f"cannot make {what} durable ({_path_of(descriptor)})"):
            raise error from None


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return "unknown"


def sync_folder(folder: Path | str) -> None:
    """Sync a folder, so that the names in it last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor, f"the names in {folder}")
    finally:
        os.close(descriptor)


def sync_path(path: Path) -> None:
    """Sync a file by its path; it must be one of ours (links are not followed)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        sync(descriptor, str(path))
    finally:
        os.close(descriptor)


def write_unsynced(path: str | Path, data: bytes) -> int:
    """Write a whole file of ours; the open descriptor, to be synced and closed by the caller."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o640)
    try:
        _write_all(descriptor, data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write(path: Path, data: bytes) -> None:
    """Write a whole file of ours and fsync it; its folder is the caller's to sync.

    What stood there is replaced at once or not at all.
    """
    draft = path.with_name(f".{path.name}.new")
    with storage(f"cannot write {path}"):
        descriptor = write_unsynced(draft, data)
        try:
            sync(descriptor, str(path))
        finally:
            os.close(descriptor)
        draft.rename(path)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Syncer:
    """A few threads, so that many fsyncs share the disk's journal commits instead of queueing.

    Only the fsyncs are done there: handing every little call to threads costs more than it saves.
    """

    def __init__(self, threads: int = 8) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sync")

    def descriptors(self, descriptors: Sequence[int], what: str) -> None:
        """Fsync each of these open files and folders, several at once.

        Nothing is left running when it returns or raises StorageBroken or StorageFull.
        """
        lanes = min(self._threads, len(descriptors))
        futures = [
            self._pool.submit(_sync_all, descriptors[start::lanes], what) for start in range(lanes)
        ]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            # a broken disk matters more than a full one, and that more than anything else
            raise min(errors, key=_gravity)

    def close(self) -> None:
        """Wait for what runs and end the threads."""
        self._pool.shutdown()


class Open(contextlib.ExitStack):
    """Descriptors that are closed together at the end of a `with`."""

    def file(self, path: str | Path) -> int:
        """A file of ours, or a folder, open for reading; links are not followed."""
        return self.keep(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))

    def keep(self, descriptor: int) -> int:
        """Close this one too."""
        self.callback(os.close, descriptor)
        return descriptor


def _sync_all(descriptors: Sequence[int], what: str) -> None:
    for descriptor in descriptors:
        sync(descriptor, what)


def _gravity(error: BaseException) -> int:
    if isinstance(error, StorageBroken):
        return 0
    return 1 if isinstance(error, StorageFull) else 2
