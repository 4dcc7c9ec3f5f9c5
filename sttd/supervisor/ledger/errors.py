"""What can go wrong with the ledger, and which of SQLite's errors is which.

Decides nothing about batches, retries or the daemon; it only gives errors their names.
"""

from __future__ import annotations

import errno
from pathlib import Path

import apsw

# The operation's own fault: its neighbours in the batch are not concerned.
_OWN = (
    apsw.BindingsError,
    apsw.ConstraintError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.SQLError,
    apsw.TooBigError,
)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class LedgerError(Exception):
    """The ledger cannot do what was asked; the message names file, problem and remedy."""


class LedgerBroken(LedgerError):  # noqa: N818 - says what has happened, not what went wrong
    """Nothing that was asked since is certain: the daemon must stop with an error.

    After a failed fsync Linux forgets which pages were not written, so trying again would lie
    (PostgreSQL panics here for the same reason; see its `data_sync_retry`).
    """


class LedgerCorrupt(LedgerBroken):
    """The file is damaged, or no database at all; it must be moved aside and rebuilt."""


class LedgerFull(LedgerError):  # noqa: N818 - as above
    """The disk is full: nothing has changed, and it may be asked again later."""


def is_own(error: Exception) -> bool:
    """Is this the fault of one operation (a bad value, a broken constraint)?"""
    return not isinstance(error, apsw.Error) or isinstance(error, _OWN)


def named(error: apsw.Error, path: Path, system_errno: int) -> LedgerError:
    """The ledger's name for an error of SQLite that is not one operation's own.

    `system_errno` is sqlite3_system_errno(): a quota reports EDQUOT as a plain I/O error, and
    growing the -shm file on a full disk does the same with ENOSPC. A failed fsync is never
    taken for a full disk: what it left on the disk is unknown.
    """
    synced = getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_FSYNC
    if isinstance(error, apsw.FullError) or (
        isinstance(error, apsw.IOError) and not synced and system_errno in _NO_ROOM
    ):
        return LedgerFull(f"{path}: the disk is full; make room, the ledger goes on by itself")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return LedgerError(
            f"{path}: another process holds a lock on it ({error}); "
            "find it with `fuser` and end its transaction"
        )
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return corrupt(path, str(error))
    return LedgerBroken(
        f"{path}: {type(error).__name__}: {error}; check the disk and the kernel's log, "
        "then start sttd again: what it acknowledged is kept"
    )


def corrupt(path: Path, finding: str) -> LedgerCorrupt:
    """What quick_check found, with what to do about it."""
    return LedgerCorrupt(
        f"{path}: the ledger is damaged ({finding}); move it aside with its -wal and -shm files "
        "and put a backup in its place, or let `sttd rebuild-ledger` make it anew from the files"
    )
