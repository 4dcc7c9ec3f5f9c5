"""Old originals, old rows and the daily copy, on real files and a real ledger."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from sttd.config import Settings
from sttd.config.sections import Limits, Retention
from sttd.core.jobs import JobState
from sttd.log import Log
from sttd.supervisor import retention
from sttd.supervisor.ledger import Ledger
from sttd.supervisor.retention import NS, Trust, sweep
from sttd.supervisor.upkeep import Upkeep
from tests.support.ledger import asynchronous, job_in, open_ledger, opened, untold

DAY = 86_400.0


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


def all_old() -> int:
    return time.time_ns() + 10 * NS


# -- files -----------------------------------------------------------------------------------------
def test_an_old_recording_leaves_with_its_sidecar_and_its_report(tmp_path: Path) -> None:
    for name in ("a.wav", "a.wav.json", "a.wav.error.json", "deep/er/b.wav"):
        put(tmp_path / name)
    assert sum(sweep(tmp_path, all_old(), 0)) == 2
    assert files(tmp_path) == []


def test_age_counts_from_the_arrival_and_not_from_the_uploaders_clock(tmp_path: Path) -> None:
    path = put(tmp_path / "ancient.wav")
    os.utime(path, (1, 1))
    assert sum(sweep(tmp_path, time.time_ns() - 60 * NS, 0)) == 0
    assert path.exists()


def test_a_report_stays_as_long_as_its_recording(tmp_path: Path) -> None:
    report = put(tmp_path / "a.wav.error.json")
    before = all_old()
    young = put(tmp_path / "a.wav")
    # only the report is old enough: told apart by asking for what is older than the recording
    border = young.stat().st_ctime_ns
    assert report.stat().st_ctime_ns <= border < before
    assert sum(sweep(tmp_path, border, 0)) == 0
    assert files(tmp_path) == ["a.wav", "a.wav.error.json"]


def test_a_report_without_its_recording_leaves_by_itself(tmp_path: Path) -> None:
    put(tmp_path / "gone.wav.error.json")
    assert sum(sweep(tmp_path, all_old(), 0)) == 1
    assert files(tmp_path) == []


def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "precious.wav")
    root = tmp_path / "done"
    root.mkdir()
    (root / "folder").symlink_to(outside.parent)
    (root / "file.wav").symlink_to(outside)
    os.mkfifo(root / "pipe.wav")
    assert sum(sweep(root, all_old(), all_old())) == 0
    assert outside.exists()
    assert sorted(os.listdir(root)) == ["file.wav", "folder", "pipe.wav"]


def test_a_root_that_became_a_link_is_refused(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "precious.wav")
    (tmp_path / "done").symlink_to(outside.parent)
    with pytest.raises(OSError, match="done"):
        list(sweep(tmp_path / "done", all_old(), 0))
    assert outside.exists()


def test_empty_folders_leave_a_day_later_and_the_root_never(tmp_path: Path) -> None:
    root = tmp_path / "done"
    (root / "fresh").mkdir(parents=True)
    (root / "old" / "older").mkdir(parents=True)
    for folder in ("old/older", "old"):
        os.utime(root / folder, (1, 1))
    list(sweep(root, 0, time.time_ns() - retention.EMPTY_FOR_NS))
    assert sorted(os.listdir(root)) == ["fresh", "old"]  # emptied just now: a day later
    assert os.listdir(root / "old") == []


def test_names_that_are_no_text_are_removed_too(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff\n.wav", "wb"):
        pass
    put(tmp_path / ("x" * 251 + ".wav"))
    assert sum(sweep(tmp_path, all_old(), 0)) == 2


def test_a_hundred_thousand_names_are_looked_at_without_being_remembered(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for n in range(3000):
        os.close(os.open(f"{n}.wav", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    walking = sweep(tmp_path, all_old(), 0)
    assert [next(walking) for _ in range(100)] == [1] * 100
    assert len(os.listdir(tmp_path)) == 2900
    before = len(os.listdir("/proc/self/fd"))
    walking.close()
    assert len(os.listdir("/proc/self/fd")) < before


# -- policy ----------------------------------------------------------------------------------------
def test_zero_keeps_for_ever() -> None:
    assert retention.before(time.time_ns(), 0.0) == 0
    assert retention.before(100 * NS, 40.0) == 60 * NS
    assert retention.before(10 * NS, 40.0) == 0


def test_a_clock_that_was_set_is_not_believed_for_a_day() -> None:
    trust = Trust(0.0, 100.0)
    assert trust.holds(60.0, 160.0)
    assert not trust.holds(1.8e9, 220.0)  # 1970 no longer
    assert not trust.holds(1.8e9 + DAY - 60, 220.0 + DAY - 60)
    assert trust.holds(1.8e9 + DAY, 220.0 + DAY)
    assert not trust.holds(1.7e9, 300.0 + DAY)  # and back again


def test_a_machine_that_slept_is_believed() -> None:
    trust = Trust(1e9, 100.0)
    assert trust.holds(1e9 + 9 * DAY, 100.0 + 9 * DAY)


# -- the whole -------------------------------------------------------------------------------------
class Clocks:
    def __init__(self) -> None:
        self.ahead = 0.0

    def wall(self) -> float:
        return time.time() + self.ahead

    def boottime(self) -> float:
        return 1000.0 + self.ahead


class Home:
    def __init__(self, root: Path, ledger: Ledger, **keep: float) -> None:
        self.expired = 0
        self.said = io.StringIO()
        self.clocks = Clocks()
        self.settings = Settings(
            state_dir=root,
            retention=Retention(**keep),
            limits=Limits(min_free_disk=0),
        )
        self.settings.done_dir.mkdir()
        self.settings.failed_dir.mkdir()
        self.upkeep = Upkeep(
            self.settings,
            ledger,
            Log(self.said, format="json", level="info"),
            self._expire,
            wall=self.clocks.wall,
            boottime=self.clocks.boottime,
            pause_s=0.0,
        )

    def _expire(self) -> int:
        self.expired += 1
        return 0

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.said.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]


def ledger_path(root: Path) -> Path:
    (root / "ledger").mkdir()
    return root / "ledger" / "sttd.db"


@asynchronous
async def test_what_is_kept_long_enough_goes_and_what_is_kept_for_ever_stays(
    tmp_path: Path,
) -> None:
    async with opened(ledger_path(tmp_path)) as ledger:
        home = Home(tmp_path, ledger, done=30 * DAY, failed=0.0, rows=20 * 365 * DAY)
        put(home.settings.done_dir / "a" / "old.wav")
        put(home.settings.failed_dir / "bad.wav")
        put(home.settings.logs_dir / "0198.sdk.log")
        job = await job_in(ledger, JobState.SUCCEEDED)
        await ledger.disposed(job, "done/a/old.wav")
        await home.upkeep.round()
        assert files(home.settings.done_dir) == ["a/old.wav"]
        assert home.expired == 1
        home.clocks.ahead = 31 * DAY
        await home.upkeep.round()
        assert files(home.settings.done_dir) == []
        assert files(home.settings.failed_dir) == ["bad.wav"]
        assert files(home.settings.logs_dir) == []
        assert await ledger.job(job) is not None
        assert [e["files"] for e in home.events("upkeep.pruned")] == [2]


@asynchronous
async def test_what_is_kept_for_less_than_an_hour_is_looked_for_more_often(tmp_path: Path) -> None:
    async with opened(ledger_path(tmp_path)) as ledger:
        home = Home(tmp_path, ledger, done=300.0)
        await home.upkeep.round()
        put(home.settings.done_dir / "a.wav")
        home.clocks.ahead = 301.0
        await home.upkeep.round()
        assert files(home.settings.done_dir) == []


@asynchronous
async def test_thousands_of_old_rows_go_in_small_transactions(tmp_path: Path) -> None:
    path = ledger_path(tmp_path)
    async with opened(path) as ledger:
        home = Home(tmp_path, ledger, rows=DAY)
        for number in range(1100):
            await ledger.withdraw([(await job_in(ledger, JobState.CLAIMING, number + 1))])
        home.clocks.ahead = 20 * 365 * DAY  # the test's ledger lives in 2033
        await home.upkeep.round()
        assert await ledger.jobs(None, 10) == []
        [told] = home.events("upkeep.pruned")
        assert told["rows"] == 1100


@asynchronous
async def test_nothing_is_thrown_away_after_the_clock_was_set(tmp_path: Path) -> None:
    async with opened(ledger_path(tmp_path)) as ledger:
        home = Home(tmp_path, ledger, done=30 * DAY)
        path = put(home.settings.done_dir / "young.wav")
        real = home.clocks.wall
        home.upkeep._wall = lambda: real() + 40 * 365 * DAY
        await home.upkeep.round()
        await home.upkeep.round()
        assert path.exists()
        assert len(home.events("upkeep.trouble")) == 1


@asynchronous
async def test_the_ledger_is_copied_once_a_day_and_the_copy_can_be_opened(tmp_path: Path) -> None:
    path = ledger_path(tmp_path)
    async with opened(path) as ledger:
        home = Home(tmp_path, ledger)
        job = await job_in(ledger, JobState.QUEUED)
        await home.upkeep.round()
        copy = path.with_name("backup.db")
        first = copy.stat().st_ino
        await home.upkeep.round()
        assert copy.stat().st_ino == first
        os.utime(copy, (time.time() - 2 * DAY,) * 2)
        await home.upkeep.round()
        assert copy.stat().st_ino != first
    async with opened(copy) as again:
        assert (await again.job(job)) is not None


@asynchronous
async def test_the_ballast_comes_back_when_there_is_room_again(tmp_path: Path) -> None:
    ledger = open_ledger(ledger_path(tmp_path), ballast_bytes=1 << 20)
    ledger.start(untold)
    try:
        home = Home(tmp_path, ledger)
        ledger._ballast.release()
        home.upkeep.settings = msgspec.structs.replace(
            home.settings, limits=Limits(min_free_disk=1 << 60)
        )
        await home.upkeep.round()
        assert not ledger.ballast_held
        home.upkeep.settings = home.settings
        await home.upkeep.round()
        assert ledger.ballast_held
    finally:
        await ledger.close()


@asynchronous
async def test_a_folder_that_cannot_be_read_is_told_once_and_the_rest_is_done(
    tmp_path: Path,
) -> None:
    async with opened(ledger_path(tmp_path)) as ledger:
        home = Home(tmp_path, ledger)
        home.settings.done_dir.rmdir()
        for hour in range(3):
            home.clocks.ahead = hour * 3600.0
            await home.upkeep.round()
        [told] = home.events("upkeep.trouble")
        assert "done" in str(told["message"])
        assert (tmp_path / "ledger" / "backup.db").exists()
