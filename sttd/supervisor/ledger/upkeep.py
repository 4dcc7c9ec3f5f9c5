"""What keeps the ledger small, whole and safe for years: pruning, checking, copying.

Pruning is a small transaction. Checking and copying run outside of any transaction; copying goes
in steps, between which the thread serves whoever waits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import apsw

from sttd.supervisor.ledger.errors import LedgerError
from sttd.supervisor.ledger.store import Store

_PAGES_A_STEP = 256  # 1 MiB: well under a millisecond or two
_SPARE_PAGES = 1024  # 4 MiB stay in the file: they are wanted again soon


def prune(store: Store, rows_before_ns: int, events_before_ns: int, limit: int) -> int:
    """Delete up to `limit` of each kind of row that is older; how many went.

    A job goes only when its original has been put away. Space is given back in small pieces.
    """
    gone = store.run("prune_jobs", before=rows_before_ns, limit=limit)
    gone += store.run("prune_stems", before=rows_before_ns, limit=limit)
    gone += store.run("prune_events", before=events_before_ns, limit=limit)
    gone += store.run("prune_lives", before=events_before_ns, limit=limit)
    gone += store.run("prune_epochs", before=events_before_ns)
    free = store.row("free_pages")
    if free is not None and free[0] > _SPARE_PAGES:
        store.rows("shrink")
    return gone


def integrity(store: Store) -> str:
    """Say "ok", or what is wrong, a line each. Nothing else is served meanwhile."""
    return "\n".join(str(row[0]) for row in store.rows("integrity"))


def backup(store: Store, path: Path) -> Iterator[None]:
    """Copy the ledger to `path`, whole or not at all; others are served between the steps.

    Raises:
        LedgerError: the copy cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield from _copy(store, partial)
        _sync(partial)
        partial.rename(path)
        _sync(path.parent)
    except (OSError, apsw.Error) as error:
        partial.unlink(missing_ok=True)
        raise LedgerError(
            f"{path}: the backup cannot be written ({error}); check the folder and its disk"
        ) from error


def _copy(store: Store, partial: Path) -> Iterator[None]:
    target = apsw.Connection(os.fspath(partial), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with target.backup("main", store.connection, "main") as copying:
            while not copying.step(_PAGES_A_STEP):
                yield
    finally:
        target.close()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
