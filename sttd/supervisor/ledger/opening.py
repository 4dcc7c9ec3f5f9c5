"""Opens the ledger's file: makes it, brings it up to date, checks it, begins a new epoch.

Everything here happens once, before the daemon does anything else; nothing here knows of jobs but
that the deferred ones of another boot must be given a new time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

from sttd.supervisor.ledger.errors import LedgerError, corrupt, named
from sttd.supervisor.ledger.statements import SQL
from sttd.supervisor.ledger.store import Store

APPLICATION_ID: Final = 0x73747464  # "sttd", where file(1) and SQLite's header keep it
MIGRATIONS: Final = ("migration_1", "migration_2")
# Before it, connections that write and checkpoint at the same moment can corrupt the WAL
# (https://sqlite.org/wal.html, "The WAL-Reset Bug").
OLDEST_SQLITE: Final = (3, 51, 3)
_FULL: Final = 2  # PRAGMA synchronous
_ALWAYS_CHECKED: Final = 64 << 20  # bytes: a third of a second; a million jobs take six
_CACHED_STATEMENTS: Final = 256  # more than ledger.sql has


def open_store(
    path: Path,
    *,
    boot_id: str,
    now_boottime_ns: Callable[[], int],
    now_wall_ns: Callable[[], int],
    taken: Callable[[str], bool],
    busy_timeout_s: float,
    vfs: str | None,
) -> Store:
    """The ledger at `path`, ready for use.

    Raises:
        LedgerCorrupt: the file is damaged.
        LedgerFull: there is no room to create or migrate it.
        LedgerError: it cannot be opened, is no ledger, or is that of a newer sttd.
    """
    require_sqlite(apsw.sqlite_lib_version())
    made = _prepare(path)
    try:
        connection = apsw.Connection(
            os.fspath(path),
            flags=apsw.SQLITE_OPEN_READWRITE,
            vfs=vfs,
            statementcachesize=_CACHED_STATEMENTS,
        )
    except apsw.Error as error:
        raise LedgerError(f"{path}: cannot be opened: {error}; check owner and mode") from error
    clocks = {"now_boottime_ns": now_boottime_ns, "now_wall_ns": now_wall_ns}
    store = Store(connection, path, taken=taken, **clocks)
    try:
        _ready(store, boot_id, round(busy_timeout_s * 1000))
        _new_epoch(store, boot_id)
        _sync_folders(path.parent, made)
    except apsw.Error as error:
        fault = named(error, path, connection.system_errno)
        connection.close()
        raise fault from error
    except BaseException:
        connection.close()
        raise
    return store


def require_sqlite(version: str) -> None:
    """Refuse a SQLite with the WAL-reset bug.

    Raises:
        LedgerError: `version` is older than 3.51.3.
    """
    if tuple(int(part) for part in version.split(".")) < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise LedgerError(
            f"SQLite {version} can corrupt a ledger; install apsw {oldest} or later, "
            "which brings its own SQLite"
        )


def _prepare(path: Path) -> bool:
    """Make folder (0700) and file (0600); did the folder have to be made?"""
    made = not path.parent.exists()
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # SQLite gives -wal and -shm the mode of the database
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LedgerError(
            f"{path}: cannot be opened: {error.strerror}; "
            "sttd's user must own the folder and the file"
        ) from error
    return made


def _ready(store: Store, boot_id: str, busy_timeout_ms: int) -> None:
    """Check that it is ours and whole, then set it up; a stranger's file is not touched."""
    store.connection.set_busy_timeout(busy_timeout_ms)
    # Plans must not depend on the values: else each new LIMIT has the statement compiled again,
    # which takes longer than running it (measured on `claim`: 420 us instead of 100).
    store.connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    version = _known_version(store)
    if version:
        _check(store, boot_id)
    store.script("settings")
    if _pragma(store, "journal_mode") != "wal":
        raise LedgerError(
            f"{store.path}: this file system cannot hold a write-ahead log; "
            "put state_dir on a local disk"
        )
    if _pragma(store, "durability") != _FULL:
        raise LedgerError(f"{store.path}: SQLite refuses synchronous=FULL; it would lose jobs")
    for migration in MIGRATIONS[version:]:
        _migrate(store, migration)


def _known_version(store: Store) -> int:
    """The schema's version, 0 for a new file."""
    identity = _pragma(store, "identity")
    version = _pragma(store, "version")
    if identity != APPLICATION_ID and (identity or version or _pragma(store, "objects")):
        raise LedgerError(
            f"{store.path}: is a database, but not sttd's ledger; move it away or set another "
            "state_dir"
        )
    if not isinstance(version, int) or version > len(MIGRATIONS):
        raise LedgerError(
            f"{store.path}: written by a newer sttd (schema {version}, this one knows up to "
            f"{len(MIGRATIONS)}); install that version again, or put back the backup made before "
            "the upgrade"
        )
    return version


def _check(store: Store, boot_id: str) -> None:
    """Read every page once, unless that takes long and nothing can have happened to them.

    The death of a process does not reach the pages; the loss of power and a failing disk do, and
    after those another boot has begun.
    """
    last = store.row("last_epoch")
    same_boot = last is not None and last[1] == boot_id
    if same_boot and store.path.stat().st_size > _ALWAYS_CHECKED:
        return
    finding = _pragma(store, "damage")
    if finding != "ok":
        raise corrupt(store.path, str(finding))


def _migrate(store: Store, migration: str) -> None:
    """One step of the schema, whole or not at all."""
    store.run("begin")
    try:
        store.script(migration)
        store.run("commit")
    except BaseException:
        with contextlib.suppress(apsw.Error):  # SQLite may have rolled back by itself
            store.run("rollback")
        raise


def _new_epoch(store: Store, boot_id: str) -> None:
    last = store.row("last_epoch")
    store.run("begin")
    store.run("new_epoch", boot_id=boot_id, pid=os.getpid(), now=store.now_wall_ns())
    store.epoch = store.connection.last_insert_rowid()
    same_boot = last is not None and last[1] == boot_id
    store.run("rebase_deferred", same_boot=same_boot, boottime=store.now_boottime_ns())
    store.run("commit")
    store.after_crash = last is not None and last[2] is None


def _sync_folders(folder: Path, made: bool) -> None:
    """Make the files' names durable; SQLite does it too, but ignores that it failed."""
    for directory in (folder, folder.parent) if made else (folder,):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise LedgerError(
                f"{directory}: cannot be made durable: {error.strerror}; check the disk"
            ) from error
        finally:
            os.close(descriptor)


def _pragma(store: Store, name: str) -> object:
    found = store.connection.execute(SQL[name]).fetchall()
    return found[0][0]
