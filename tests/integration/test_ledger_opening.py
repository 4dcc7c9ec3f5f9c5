"""How the ledger's file is made, brought up to date, checked and refused."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path

import apsw
import pytest

from sttd.core.jobs import JobState
from sttd.supervisor.ledger import LedgerCorrupt, LedgerError, opening
from sttd.supervisor.ledger.statements import SQL
from tests.support.ledger import asynchronous, job_id, job_in, new_job, open_ledger, opened, untold


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@asynchronous
async def test_the_folder_and_its_files_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(tmp_path / "ledger" / "sttd.db", ballast_bytes=4096) as ledger:
            await ledger.begin([new_job(1)])
            assert mode(tmp_path / "ledger") == 0o700
            files = {path.name: mode(path) for path in (tmp_path / "ledger").iterdir()}
    finally:
        os.umask(before)
    assert files == dict.fromkeys(("sttd.db", "sttd.db-wal", "sttd.db-shm", "ballast"), 0o600)


@asynchronous
async def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "sttd.db"
    path.touch(0o666)
    path.chmod(0o666)
    async with opened(path):
        assert mode(path) == 0o600


@asynchronous
async def test_the_connection_is_durable_and_trusts_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        pragma = ledger._store.connection.pragma
        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2
        assert pragma("foreign_keys") == 1
        assert pragma("trusted_schema") == 0
        assert pragma("auto_vacuum") == 2
        assert pragma("application_id") == opening.APPLICATION_ID
        assert pragma("user_version") == len(opening.MIGRATIONS)
        assert pragma("journal_size_limit") == 64 << 20


@asynchronous
async def test_all_tables_are_strict(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        tables = ledger._store.connection.execute("PRAGMA table_list").fetchall()
        lax = {row[1] for row in tables if row[2] == "table" and not row[5]}
        assert lax == {"sqlite_schema", "sqlite_temp_schema"}


@asynchronous
async def test_a_clean_shutdown_is_told_from_a_crash(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        assert (ledger.epoch, ledger.after_crash) == (1, False)
    crashed = open_ledger(tmp_path / "sttd.db")
    assert (crashed.epoch, crashed.after_crash) == (2, False)
    crashed._store.connection.close()
    async with opened(tmp_path / "sttd.db") as ledger:
        assert (ledger.epoch, ledger.after_crash) == (3, True)


@asynchronous
async def test_a_clean_shutdown_leaves_one_file(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger" / "sttd.db") as ledger:
        await ledger.begin([new_job(1)])
    assert [path.name for path in (tmp_path / "ledger").iterdir()] == ["sttd.db"]


@asynchronous
async def test_opening_and_closing_leaves_neither_threads_nor_descriptors(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db"):
        pass
    before = (threading.active_count(), descriptors())
    for _ in range(5):
        async with opened(tmp_path / "sttd.db") as ledger:
            await ledger.begin([new_job(1)])
            names = {thread.name for thread in threading.enumerate()}
            assert "sttd-ledger" in names
    await open_ledger(tmp_path / "sttd.db").close()
    assert (threading.active_count(), descriptors()) == before


@asynchronous
async def test_a_ledger_that_is_closed_or_not_started_says_so(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "sttd.db")
    with pytest.raises(LedgerError, match="not open"):
        await ledger.counts()
    ledger.start(untold)
    await ledger.counts()
    await ledger.close()
    await ledger.close()
    with pytest.raises(LedgerError, match="not open"):
        await ledger.counts()


# -- versions ------------------------------------------------------------------------------------
def old_ledger(path: Path, version: int) -> None:
    """A ledger as an older sttd left it, with one queued job."""
    connection = apsw.Connection(str(path))
    connection.execute(SQL["settings"]).fetchall()
    for migration in opening.MIGRATIONS[:version]:
        connection.execute(SQL[migration])
    if version:
        connection.execute(
            """INSERT INTO job (id, kind, name, signature, out_name, options, priority, state,
                 size, created_ns, queued_ns)
               VALUES (?, 'inbox', x'61', '{"dev":1,"ino":1,"size":1,"mtime_ns":1,"ctime_ns":1}',
                 x'61', '{}', 0, 'queued', 1, 1, 1)""",
            (job_id(1),),
        )
    connection.close()


@pytest.mark.parametrize("version", range(len(opening.MIGRATIONS) + 1))
def test_a_ledger_of_any_earlier_version_is_brought_up_to_date(
    version: int, tmp_path: Path
) -> None:
    @asynchronous
    async def check() -> None:
        old_ledger(tmp_path / "sttd.db", version)
        async with opened(tmp_path / "sttd.db") as ledger:
            assert ledger._store.connection.pragma("user_version") == len(opening.MIGRATIONS)
            assert await ledger.lives(1) == []
            assert len(await ledger.jobs(None, 9)) == (1 if version else 0)
            assert len(await ledger.claim(9)) == (1 if version else 0)
            assert await ledger.integrity() == "ok"

    check()


def test_a_migration_that_fails_leaves_the_version_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sttd.db"
    old_ledger(path, 1)
    before = apsw.Connection(str(path)).execute("SELECT sql FROM sqlite_schema").fetchall()
    # a table of that name is in the way of version 2, after part of it has been carried out
    half = SQL["migration_2"].replace("PRAGMA user_version = 2;", "CREATE TABLE job (a);")
    monkeypatch.setattr("sttd.supervisor.ledger.store.SQL", {**SQL, "migration_2": half})
    with pytest.raises(LedgerError, match="table job already exists"):
        open_ledger(path)
    after = apsw.Connection(str(path))
    assert after.execute("SELECT sql FROM sqlite_schema").fetchall() == before
    assert after.pragma("user_version") == 1
    after.close()


def test_the_ledger_of_a_newer_sttd_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sttd.db"
    old_ledger(path, 2)
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 99").fetchall()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"newer sttd \(schema 99.*install that version"):
        open_ledger(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("statement", ["CREATE TABLE t (a)", "PRAGMA application_id = 7"])
def test_somebody_elses_database_is_refused_and_left_alone(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "sttd.db"
    connection = apsw.Connection(str(path))
    connection.execute(statement).fetchall()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="not sttd's ledger"):
        open_ledger(path)
    assert path.read_bytes() == before


# -- trouble -------------------------------------------------------------------------------------
def test_a_file_that_is_no_database_is_told_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "sttd.db"
    path.write_bytes(b"this is not a database, and never was" * 200)
    with pytest.raises(LedgerCorrupt, match=r"sttd\.db: the ledger is damaged .* move it aside"):
        open_ledger(path)


async def damaged(path: Path) -> None:
    """A ledger at `path` with damage in a page that no query needs at the start."""
    async with opened(path) as ledger:
        await ledger.begin([new_job(n) for n in range(200)])
        leaves = "SELECT max(pageno) FROM dbstat WHERE name = 'job' AND pagetype = 'leaf'"
        page = ledger._store.connection.execute(leaves).get
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(512))


@asynchronous
async def test_damage_that_nothing_has_met_yet_is_found_at_the_start(tmp_path: Path) -> None:
    await damaged(tmp_path / "sttd.db")
    before = descriptors()
    with pytest.raises(LedgerCorrupt, match="put a backup in its place"):
        open_ledger(tmp_path / "sttd.db")
    assert descriptors() == before


def test_a_large_ledger_is_checked_once_in_each_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_ALWAYS_CHECKED", 4096)  # what counts as large
    asyncio.run(damaged(tmp_path / "sttd.db"))
    asyncio.run(open_ledger(tmp_path / "sttd.db").close())
    with pytest.raises(LedgerCorrupt):
        open_ledger(tmp_path / "sttd.db", boot_id="after a power cut")


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "sttd.db").mkdir()
    with pytest.raises(LedgerError, match=r"cannot be opened: Is a directory"):
        open_ledger(tmp_path / "sttd.db")


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "sttd.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="cannot be opened"):
        open_ledger(tmp_path / "sttd.db")


def test_a_missing_state_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="No such file or directory"):
        open_ledger(tmp_path / "state" / "ledger" / "sttd.db")


@pytest.mark.parametrize(
    ("version", "accepted"),
    [("3.40.1", False), ("3.51.2", False), ("3.51.3", True), ("3.54.1", True), ("4.0", True)],
)
def test_a_sqlite_that_can_corrupt_the_wal_is_refused(version: str, *, accepted: bool) -> None:
    if accepted:
        opening.require_sqlite(version)
        return
    with pytest.raises(LedgerError, match="install apsw"):
        opening.require_sqlite(version)


@asynchronous
async def test_what_a_daemon_left_unfinished_is_found_by_the_next(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "sttd.db")
    ledger.start(untold)
    await job_in(ledger, JobState.RUNNING)
    async with opened(tmp_path / "sttd.db") as successor:  # as after SIGKILL: nothing was closed
        assert (await successor.counts()).running == 1
    await ledger.close()
