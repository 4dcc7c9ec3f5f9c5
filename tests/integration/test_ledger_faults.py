"""Full disks, failed fsyncs, power cuts and SIGKILL: what was acknowledged is kept."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from sttd.core.jobs import JobState
from sttd.supervisor.ledger import (
    Ballast,
    Ledger,
    LedgerBroken,
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
)
from sttd.supervisor.ledger.errors import named
from sttd.supervisor.records import EventRow, NewJob
from tests.support.ledger import (
    FAIL,
    SUCCEED,
    WALL,
    Disk,
    asynchronous,
    busy_thread,
    failed_fsync,
    job_id,
    job_in,
    new_job,
    open_ledger,
    opened,
    untold,
)
from tests.support.waiting import eventually_async

BALLAST = 1 << 20


def fill_up(ledger: Ledger) -> None:
    """From now on the file may not grow: SQLite says SQLITE_FULL, as on a full disk."""
    connection = ledger._store.connection
    pages = connection.pragma("page_count")
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()


def make_room(ledger: Ledger) -> None:
    ledger._store.connection.execute("PRAGMA max_page_count = 1000000").fetchall()


def crowd(number: int) -> list[NewJob]:
    """More new jobs than the pages at hand can hold."""
    return [new_job(number * 1000 + each, options="x" * 2000) for each in range(100)]


# -- full ------------------------------------------------------------------------------------------
@asynchronous
async def test_on_a_full_disk_nothing_has_changed_and_it_may_be_asked_again(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        job = await job_in(ledger, JobState.RUNNING)
        before = await ledger.job(job)
        fill_up(ledger)
        with pytest.raises(LedgerFull, match=r"sttd\.db: the disk is full"):
            await ledger.begin(crowd(1))
        assert await ledger.job(job) == before
        assert len(await ledger.jobs(None, 999)) == 1
        make_room(ledger)
        assert len(await ledger.begin(crowd(1))) == 100
        assert await ledger.integrity() == "ok"


@asynchronous
async def test_questions_are_answered_on_a_full_disk(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        job = await job_in(ledger, JobState.QUEUED)
        fill_up(ledger)
        with busy_thread(ledger):
            refused = asyncio.ensure_future(ledger.begin(crowd(1)))
            asked = asyncio.ensure_future(ledger.job(job))
            await asyncio.sleep(0)
        assert await asked is not None
        with pytest.raises(LedgerFull):
            await refused


@asynchronous
async def test_the_ballast_lets_ends_be_recorded_but_takes_on_no_new_work(tmp_path: Path) -> None:
    path = tmp_path / "ledger" / "sttd.db"
    async with opened(path, ballast_bytes=BALLAST) as ledger:
        job = await job_in(ledger, JobState.QUEUED)
        assert (path.parent / "ballast").exists()
        fill_up(ledger)
        with busy_thread(ledger):
            failed = asyncio.ensure_future(ledger.fail(job, None, **FAIL))
            refused = asyncio.ensure_future(ledger.begin(crowd(1)))
            await asyncio.sleep(0)
        assert await failed
        with pytest.raises(LedgerFull):
            await refused
        assert not (path.parent / "ballast").exists()
        assert not ledger.ballast_held
        assert not await ledger.restore_ballast(1 << 62)
        assert await ledger.restore_ballast(0)
        assert ledger.ballast_held


@asynchronous
async def test_notes_wait_in_memory_while_the_disk_is_full(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db", ballast_bytes=BALLAST) as ledger:
        fill_up(ledger)
        many = [EventRow(at_ns=WALL + n, name="x", fields_json="y" * 500) for n in range(200)]
        await ledger.record(many)
        assert await ledger.events(0, 999) == []
        assert ledger.ballast_held  # it is not spent on events
        make_room(ledger)
        assert await ledger.events(0, 999) == many


@asynchronous
async def test_notes_that_find_no_room_are_tried_again_at_leisure(tmp_path: Path) -> None:
    async with opened(tmp_path / "sttd.db") as ledger:
        fill_up(ledger)
        failed: list[int] = []
        ledger._store.connection.set_rollback_hook(lambda: failed.append(1))
        await ledger.record([EventRow(at_ns=n, name="x", fields_json="y" * 900) for n in range(99)])
        await eventually_async(lambda: failed)

        def planned() -> bool:
            due = ledger._thread._notes_due
            return due is not None and due > time.monotonic()

        await eventually_async(planned)  # else the thread tries without a pause
        make_room(ledger)
        assert len(await ledger.events(0, 999)) == 99


def test_the_ballast_is_real_and_is_not_made_where_room_is_wanted(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", BALLAST)
    assert not ballast.release()
    assert ballast.restore()
    assert ballast.held
    assert ballast.path.stat().st_blocks * 512 >= BALLAST
    assert ballast.path.stat().st_mode & 0o777 == 0o600
    assert ballast.release()
    assert not ballast.restore(keep_free=1 << 62)
    assert not ballast.path.exists()
    ballast.path.write_bytes(b"half")
    assert ballast.restore()
    assert Ballast(tmp_path / "none", 0).held


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path, leave: int) -> None:
    """Take all room of the file system but so many bytes."""
    disk = os.statvfs(file.parent)
    file.write_bytes(bytes(disk.f_bavail * disk.f_frsize - leave))


def test_a_disk_that_is_really_full_is_survived(small_disk: Path) -> None:
    @asynchronous
    async def check() -> None:
        path = small_disk / "ledger" / "sttd.db"
        async with opened(path, ballast_bytes=256 << 10) as ledger:
            job = await job_in(ledger, JobState.RUNNING)
            token = (await ledger.in_state(JobState.RUNNING))[0].token
            assert token is not None
            filler = small_disk / "filler"
            fill(filler, leave=0)
            with pytest.raises(LedgerFull):
                await ledger.begin(crowd(1))
            assert not ledger.ballast_held
            assert await ledger.succeed(job, token, **SUCCEED)  # in the ballast's place
            filler.unlink()
            assert await ledger.restore_ballast(0)
            await ledger.begin([new_job(5)])
        async with opened(path, ballast_bytes=0) as ledger:
            assert (await ledger.counts()).succeeded == 1
            assert await ledger.integrity() == "ok"

    check()


def test_a_disk_that_filled_up_between_two_lives_costs_the_ballast_and_not_the_start(
    small_disk: Path,
) -> None:
    @asynchronous
    async def check() -> None:
        path = small_disk / "ledger" / "sttd.db"
        async with opened(path, ballast_bytes=256 << 10) as ledger:
            await ledger.begin([new_job(1)])
        fill(small_disk / "filler", leave=0)
        async with opened(path, ballast_bytes=256 << 10) as ledger:
            assert not ledger.ballast_held
            assert len(await ledger.in_state(JobState.CLAIMING)) == 1
        (small_disk / "ledger" / "ballast").unlink(missing_ok=True)
        fill(small_disk / "filler2", leave=0)
        with pytest.raises(LedgerFull, match="make room"):
            open_ledger(path, ballast_bytes=256 << 10)

    check()


def test_a_ledger_that_finds_no_room_at_all_says_so(small_disk: Path) -> None:
    fill(small_disk / "filler", leave=8192)
    with pytest.raises(LedgerFull, match="make room"):
        open_ledger(small_disk / "ledger" / "sttd.db")


# -- which error is which --------------------------------------------------------------------------
def io_error(code: int) -> apsw.Error:
    error = apsw.IOError("disk I/O error")
    vars(error)["extendedresult"] = code
    return error


@pytest.mark.parametrize(
    ("error", "system_errno", "kind"),
    [
        (apsw.FullError("full"), 0, LedgerFull),
        (io_error(apsw.SQLITE_IOERR_WRITE), errno.EDQUOT, LedgerFull),  # a quota
        (io_error(apsw.SQLITE_IOERR_SHMSIZE), errno.ENOSPC, LedgerFull),  # no room for -shm
        (io_error(apsw.SQLITE_IOERR_FSYNC), errno.ENOSPC, LedgerBroken),  # what is on the disk?
        (io_error(apsw.SQLITE_IOERR_WRITE), errno.EIO, LedgerBroken),
        (io_error(apsw.SQLITE_IOERR_READ), errno.EIO, LedgerBroken),
        (apsw.ReadOnlyError("readonly"), errno.EROFS, LedgerBroken),
        (apsw.NoMemError("out of memory"), 0, LedgerBroken),
        (apsw.ConstraintError("at the commit"), 0, LedgerBroken),
        (apsw.CorruptError("malformed"), 0, LedgerCorrupt),
        (apsw.NotADBError("not a database"), 0, LedgerCorrupt),
    ],
)
def test_an_error_is_named_by_what_it_means(
    error: apsw.Error, system_errno: int, kind: type[LedgerError]
) -> None:
    found = named(error, Path("x/sttd.db"), system_errno)
    assert type(found) is kind
    assert str(found).startswith("x/sttd.db: ")


# -- broken ----------------------------------------------------------------------------------------
@asynchronous
async def test_a_failed_fsync_breaks_the_ledger_once_and_for_all(tmp_path: Path) -> None:
    disk = Disk()
    broken: list[LedgerError] = []
    ledger = open_ledger(tmp_path / "sttd.db", vfs=disk.name)
    ledger.start(broken.append)
    await ledger.begin([new_job(1)])
    disk.failing = failed_fsync
    asked = [asyncio.ensure_future(ledger.begin([new_job(n)])) for n in (2, 3)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    disk.failing = None  # SQLite itself would go on as if nothing had happened
    with pytest.raises(LedgerBroken, match=r"sttd\.db: IOError: .* check the disk"):
        await ledger.begin([new_job(4)])
    with pytest.raises(LedgerBroken):
        await ledger.counts()
    with pytest.raises(LedgerBroken):
        await ledger.integrity()
    ledger.note([EventRow(at_ns=1, name="x")])
    await ledger.close()
    assert [type(error) for error in found] == [LedgerBroken, LedgerBroken]
    assert len(broken) == 1
    async with opened(tmp_path / "sttd.db") as successor:
        known = await successor.known([job_id(n) for n in range(9)])
        assert job_id(1) in known
        assert job_id(4) not in known
        assert await successor.integrity() == "ok"


@asynchronous
async def test_an_fsync_that_fails_at_the_close_is_told(tmp_path: Path) -> None:
    disk = Disk()
    ledger = open_ledger(tmp_path / "sttd.db", vfs=disk.name)
    ledger.start(untold)
    await ledger.begin([new_job(1)])
    disk.failing = failed_fsync
    with pytest.raises(LedgerBroken):
        await ledger.close()
    async with opened(tmp_path / "sttd.db") as successor:
        assert await successor.known([job_id(1)]) == {job_id(1)}


# -- power cuts ------------------------------------------------------------------------------------
def after_power_cut(disk: Disk, folder: Path) -> Path:
    """The files as they would be found: what was synced, at its last fsync."""
    folder.mkdir()
    for path, content in disk.durable.items():
        (folder / Path(path).name).write_bytes(content)
    return folder / "sttd.db"


@asynchronous
async def test_what_was_acknowledged_survives_a_power_cut_after_each_step(tmp_path: Path) -> None:
    disk = Disk()
    ledger = open_ledger(tmp_path / "sttd.db", vfs=disk.name)
    ledger.start(untold)
    cuts = iter(range(99))

    async def found() -> tuple[JobState, str | None]:
        path = after_power_cut(disk, tmp_path / f"cut-{next(cuts)}")
        async with opened(path) as survivor:
            assert await survivor.integrity() == "ok"
            row = await survivor.job(job_id(1))
            assert row is not None
            return row.state, row.token

    await ledger.begin([new_job(1)])
    assert await found() == (JobState.CLAIMING, None)
    await ledger.accept([job_id(1)])
    assert await found() == (JobState.QUEUED, None)
    (job,) = await ledger.claim(1)
    assert await found() == (JobState.RUNNING, job.token)
    await ledger.succeed(job.id, job.token, **SUCCEED)
    assert await found() == (JobState.SUCCEEDED, None)
    await ledger.close()


@asynchronous
async def test_a_new_ledger_survives_a_power_cut_right_after_it_was_opened(
    tmp_path: Path,
) -> None:
    disk = Disk()
    ledger = open_ledger(tmp_path / "sttd.db", vfs=disk.name)
    async with opened(after_power_cut(disk, tmp_path / "cut")) as survivor:
        assert survivor.epoch == 2
    await ledger.close()


# -- SIGKILL ---------------------------------------------------------------------------------------
CHILD = """
import asyncio, pathlib, sys
from sttd.supervisor.ledger import Ledger
from tests.support.ledger import SUCCEED, new_job, open_ledger, untold

async def main():
    ledger = open_ledger(pathlib.Path(sys.argv[1]))
    ledger.start(untold)
    start = int(sys.argv[2])

    def tell(*words):
        sys.stdout.write(" ".join(words) + "\\n")
        sys.stdout.flush()

    async def live(number):
        new = new_job(number, stem="same")
        await ledger.begin([new])
        tell("begun", new.id)
        await ledger.accept([new.id])
        tell("accepted", new.id)
        for job in await ledger.claim(1):
            if await ledger.succeed(job.id, job.token, **SUCCEED):
                tell("succeeded", job.id)

    while True:
        await asyncio.gather(*(live(number) for number in range(start, start + 4)))
        start += 4

asyncio.run(main())
"""


def run_until_killed(path: Path, start: int, lines: int) -> list[list[str]]:
    """What a child acknowledged until it was killed, some time after its `lines`th word."""
    command = [sys.executable, "-c", CHILD, str(path), str(start)]
    root = Path(__file__).resolve().parents[2]
    heard: list[list[str]] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | {"PYTHONPATH": "."}
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            heard.append(line.split())
            if len(heard) == lines:
                child.kill()
        assert child.wait() == -signal.SIGKILL
    return [words for words in heard if len(words) == 2 and len(words[1]) == 36]


@asynchronous
async def kept(path: Path, heard: list[list[str]]) -> None:
    """All that was heard is in the ledger at `path`."""
    async with opened(path) as ledger:
        assert ledger.after_crash
        assert await ledger.integrity() == "ok"
        rows = {row.id: row for row in await ledger.jobs(None, 100_000)}
        for word, job in heard:
            state = rows[job].state
            assert word != "accepted" or state is not JobState.CLAIMING
            assert word != "succeeded" or state is JobState.SUCCEEDED
        names = [row.out_name for row in rows.values()]
        assert len(set(names)) == len(names)


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "sttd.db"
    heard: list[list[str]] = []
    for turn, lines in enumerate((1, 23, 47, 110)):
        heard += run_until_killed(path, turn * 10_000, lines)

        kept(path, heard)
    assert {word for word, _ in heard} == {"begun", "accepted", "succeeded"}


def test_a_killed_writer_leaves_no_lock_behind(tmp_path: Path) -> None:
    run_until_killed(tmp_path / "sttd.db", 0, 5)
    ledger = open_ledger(tmp_path / "sttd.db", busy_timeout_s=0.0)
    asyncio.run(ledger.close())
