"""From a dropped file to an accepted job: the real inbox, doorbell and ledger."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import msgspec
import pytest

from sttd.core.jobs import JobState
from sttd.supervisor import beneath, doorbell
from sttd.supervisor.arrivals import QueueFullError, RefusedError
from sttd.supervisor.durable import StorageBroken, StorageFull
from sttd.supervisor.inbox import Candidate
from sttd.supervisor.records import NewJob, Selection
from sttd.supervisor.spool import signature_of
from sttd.supervisor.submissions import UnsettledError
from sttd.supervisor.uuid7 import new_id
from sttd.wire.options import MAX_BYTES, OptionsError
from tests.support.files import Clocks, World, accept_all, attending, living


# -- the whole way ----------------------------------------------------------------------------
def test_a_dropped_file_becomes_a_durable_job_in_the_spool(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with attending(world):
            world.drop("a/meeting.wav", b"sound")
            await world.heard.counted(1)
            row = await world.ledger.job(world.heard.jobs[0].id)
            assert row is not None
            assert (row.state, row.name, row.out_name) == (
                JobState.QUEUED,
                "a/meeting.wav",
                "a/meeting",
            )
            assert world.spool.audio(row.id).read_bytes() == b"sound"
            file = world.spool.read_job(row.id)
            assert file is not None
            assert file.new_job().name == "a/meeting.wav"
        assert world.files("inbox") == []

    asyncio.run(story())


def test_a_file_that_is_still_being_written_is_taken_when_its_writer_is_done(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with attending(world):
            path = world.inbox_path / "a.wav"
            with path.open("wb") as file:
                for _ in range(20):
                    file.write(b"x" * 1000)
                    file.flush()
                    world.drop("other.wav")
                    await world.heard.until(lambda: bool(world.heard.jobs))
                    world.heard.jobs.clear()
                assert path.exists()
            await world.heard.until(lambda: [r.name for r in world.heard.jobs] == ["a.wav"])
            assert world.heard.jobs[0].size == 20_000

    asyncio.run(story())


def test_a_file_that_settles_is_taken_without_another_ring_or_rescan(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, settle_s=0.2, rescan_s=3600.0)
        async with attending(world):
            await asyncio.to_thread(world.drop, "a.wav")
            await world.heard.counted(1)

    asyncio.run(story())


def test_folders_that_are_to_be_looked_into_from_now_on_need_no_rescan(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, rescan_s=3600.0, recursive=False)
        world.drop("a/early.wav")
        async with attending(world) as arrivals:
            world.drop("first.wav")
            await world.heard.counted(1)
            world.inbox.settings = replace(world.inbox.settings, recursive=True)
            arrivals.configure(world.arrival_settings)
            await world.heard.counted(2)
            for count in (3, 4):  # what is watched anew rings once by itself
                world.drop(f"a/{count}.wav")
                await world.heard.counted(count)
            assert [row.name for row in world.heard.jobs][1:] == [
                "a/early.wav",
                "a/3.wav",
                "a/4.wav",
            ]

    asyncio.run(story())


def test_the_same_name_may_come_again_while_the_first_is_in_the_spool(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with attending(world):
            for count in (1, 2, 3):
                world.drop("Recording.wav", b"%d" % count)
                await world.heard.counted(count)
            rows = world.heard.jobs
            assert [row.out_name for row in rows] == ["Recording", "Recording-2", "Recording-3"]
            assert [world.spool.audio(row.id).read_bytes() for row in rows] == [b"1", b"2", b"3"]

    asyncio.run(story())


def test_outputs_that_would_collide_get_numbers(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        (world.outbox.path / "b.srt").write_bytes(b"a stranger's")
        async with living(world):
            for name in ("a.wav", "a.mp3", "b.wav"):
                world.drop(name)
            rows = await accept_all(world)
            assert sorted(row.out_name for row in rows) == ["a", "a-2", "b-2"]

    asyncio.run(story())


def test_everything_dropped_at_once_is_taken_once(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        wanted = {world.drop(f"{n % 5}/{n}.wav").name for n in range(300)}
        async with attending(world):
            late = {world.drop(f"late/{n}.wav").name for n in range(300, 400)}
            await world.heard.counted(400)
            names = [Path(row.name).name for row in world.heard.jobs]
            assert len(names) == 400
            assert set(names) == wanted | late
            counts = await world.ledger.counts()
            assert counts.queued == 400

    asyncio.run(story())


def test_names_that_are_no_text_go_all_the_way(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        raw = [
            b"caf\xe9.wav",
            b"two\nlines.wav",
            b"x" * 251 + b".wav",
            "é".encode() * 125 + b".wav",
        ]
        for name in raw:
            with open(os.fsencode(world.inbox_path) + b"/" + name, "wb") as file:  # noqa: ASYNC230
                file.write(b"x")
        async with living(world):
            assert len(await accept_all(world)) == 4
            jobs = await world.ledger.claim(10)
            for job in jobs:
                published = await world.finish(job)
                assert (world.outbox.path / published[-1]).exists()
            done = {os.fsencode(name) for name in os.listdir(tmp_path / "done")}
            assert {raw[0], raw[1]} < done
            assert len(done) == 4
            assert world.files("spool") == []

    asyncio.run(story())


def test_a_name_that_is_not_utf8_does_not_deafen_the_doorbell(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with attending(world):
            for count in range(1, 6, 2):
                with open(os.fsencode(world.inbox_path) + b"/%d\xe9.wav" % count, "wb") as file:  # noqa: ASYNC230
                    file.write(b"x")
                await world.heard.counted(count)
                world.drop(f"{count}.wav")
                await world.heard.counted(count + 1)

    asyncio.run(story())


def test_without_notifications_the_rescan_finds_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_arguments: object) -> None:
        raise OSError(28, "the limit of inotify watches was reached")

    async def story() -> None:
        world = World(tmp_path, rescan_s=0.05)
        async with attending(world):
            for count in (1, 2, 3):
                world.drop(f"{count}.wav")
                await world.heard.counted(count)
            told = [one.reason for one in world.heard.rejections]
            assert len(told) == 1
            assert "inotify watches" in told[0]

    monkeypatch.setattr(doorbell, "Inotify", failing)
    asyncio.run(story())


def test_an_inbox_that_was_replaced_is_found_again(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with attending(world):
            world.inbox_path.rename(tmp_path / "old")
            (tmp_path / "old" / "a.wav").write_bytes(b"x")
            await world.heard.until(lambda: bool(world.heard.troubles))
            assert "inbox" in str(world.heard.troubles[-1])
            world.inbox_path.mkdir()
            world.drop("b.wav")
            await world.heard.counted(1)
            await world.heard.until(lambda: world.heard.troubles[-1] is None)
            assert world.heard.jobs[0].name == "b.wav"
            world.drop("c.wav")
            await world.heard.counted(2)
        assert (tmp_path / "old" / "a.wav").exists()

    asyncio.run(story())


# -- what is refused or fails at once ---------------------------------------------------------
def test_refused_files_are_told_once_and_stay(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        (world.inbox_path / "link.wav").symlink_to("/etc/hosts")
        os.mkfifo(world.inbox_path / "pipe.wav")
        async with attending(world):
            await world.heard.until(lambda: len(world.heard.rejections) == 2)
            for count, name in enumerate(("a.wav", "b.wav"), 1):
                world.drop(name)
                await world.heard.counted(count)
            assert sorted(one.name for one in world.heard.rejections) == ["link.wav", "pipe.wav"]
        assert world.files("inbox") == ["inbox/link.wav", "inbox/pipe.wav"]

    asyncio.run(story())


def test_a_file_that_is_too_large_fails_with_a_reason(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, max_file_size=10)
        async with attending(world):
            world.drop("a.wav", b"x" * 11)
            await world.heard.until(lambda: len(world.heard.failures) == 1)
            row = await world.ledger.job(world.heard.failures[0].id)
            assert row is not None
            assert (row.state, row.error_code, row.original) == (
                JobState.FAILED,
                "too_large",
                "failed/a.wav",
            )
            assert "limits.max_file_size" in str(row.error_message)
            assert world.heard.jobs == []
        assert world.files() == ["failed/a.wav", "failed/a.wav.error.json"]

    asyncio.run(story())


@pytest.mark.parametrize("sidecar", [b"{", b'{"langauges":[]}', b'{"x":"' + b"y" * 70_000 + b'"}'])
def test_an_invalid_sidecar_fails_its_recording_with_a_reason(
    tmp_path: Path, sidecar: bytes
) -> None:
    async def story() -> None:
        world = World(tmp_path)
        world.drop("a.wav.json", sidecar)
        world.drop("a.wav")
        async with living(world):
            assert await accept_all(world) == []
            [row] = world.heard.failures
            assert row.error_code == "bad_sidecar"
            assert str(row.error_message).startswith("a.wav.json: ")
            if len(sidecar) > MAX_BYTES:
                assert f" {len(sidecar)} bytes" in str(row.error_message)
        assert world.files() == ["failed/a.wav", "failed/a.wav.error.json", "failed/a.wav.json"]

    asyncio.run(story())


def test_a_valid_sidecar_travels_with_its_recording(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        world.drop("a.wav.json", b'{"priority":9,"options":{"beam":2}}')
        world.drop("a.wav")
        async with living(world):
            [row] = await accept_all(world)
            assert row.priority == 9
            [job] = await world.ledger.claim(1)
            assert msgspec.json.decode(job.options)["options"] == {"beam": 2}
            await world.finish(job)
        assert world.files() == ["done/a.wav", "done/a.wav.json", "outbox/a.json", "outbox/a.txt"]

    asyncio.run(story())


def test_a_sidecar_that_came_alone_ends_in_failed_with_a_reason(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, lone_sidecar_s=0.0)
        world.drop("a/b.wav.json", b"{}")
        async with attending(world):
            await world.heard.until(lambda: len(world.heard.rejections) == 1)
        assert world.files() == ["failed/a/b.wav.json", "failed/a/b.wav.json.error.json"]
        report = msgspec.json.decode((tmp_path / "failed/a/b.wav.json.error.json").read_bytes())
        assert report["code"] == "lone_sidecar"

    asyncio.run(story())


def test_a_sidecar_that_cannot_be_moved_is_told_once_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with the sticky bit only the owner of a file may move it."""

    def refusing(folder: int, source: str, target_folder: int, target: str) -> int:
        if source == "lone.wav.json":
            return errno.EPERM
        return renameat2(folder, source, target_folder, target)

    renameat2 = beneath._renameat2
    monkeypatch.setattr(beneath, "_renameat2", refusing)

    async def story() -> None:
        clocks = Clocks()
        world = World(tmp_path, lone_sidecar_s=0.0, rescan_s=0.05, clock=clocks.clock())
        world.drop("lone.wav.json", b"{}")
        async with attending(world):
            for count in (1, 2, 3):
                world.drop(f"{count}.wav")
                await world.heard.counted(count)
                clocks.tick(61.0)  # then it is tried again
            assert [one.name for one in world.heard.rejections] == ["lone.wav.json"]
            assert world.heard.troubles == []
            monkeypatch.undo()
            clocks.tick(61.0)
            await world.heard.until(lambda: len(world.heard.rejections) == 2)
        assert world.files("failed") == [
            "failed/lone.wav.json",
            "failed/lone.wav.json.error.json",
        ]
        assert world.files("spool/.upload") == []

    asyncio.run(story())


def test_a_recording_that_cannot_be_moved_is_told_once_and_is_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(source: str, target: str, **folders: int) -> None:
        if source == "stuck.wav":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        rename(source, target, **folders)

    rename = os.rename
    monkeypatch.setattr(os, "rename", refusing)

    async def story() -> None:
        clocks = Clocks()
        world = World(tmp_path, rescan_s=0.05, clock=clocks.clock())
        world.drop("stuck.wav")
        async with attending(world):
            count = 0
            while len(await world.ledger.jobs(JobState.WITHDRAWN, 100)) < 2:
                count += 1
                world.drop(f"{count}.wav")
                await world.heard.counted(count)
                clocks.tick(31.0)  # at every second of these it is tried again
            assert [one.name for one in world.heard.rejections] == ["stuck.wav"]
            listed = await world.ledger.page(Selection(limit=100))
            assert {row.name for row in listed.jobs} == {f"{n + 1}.wav" for n in range(count)}

    asyncio.run(story())


# -- between the claim and the acceptance -----------------------------------------------------
def test_a_file_that_vanishes_after_the_claim_is_withdrawn(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        path = world.drop("a.wav")
        world.drop("a.wav.json", b"{}")
        async with living(world):
            found = [one for one in world.inbox.scan().found if isinstance(one, Candidate)]
            jobs, _ = world.inbox.prepare(found)
            rows = await world.ledger.begin(jobs)
            path.unlink()
            settled = await world.arrivals()._acceptance.settle(rows)
            assert [one.row.name for one in settled.withdrawn] == ["a.wav"]
            row = await world.ledger.job(rows[0].id)
            assert row is not None
            assert row.state is JobState.WITHDRAWN
        assert world.files() == ["inbox/a.wav.json"]

    asyncio.run(story())


@pytest.mark.parametrize("swap", ["link", "hard link", "folder"])
def test_what_is_swapped_in_at_the_last_moment_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: str
) -> None:
    rename = os.rename

    def racing(source: str, target: str, **folders: int) -> None:
        if str(target).endswith("/audio"):
            path = tmp_path / "inbox" / "a.wav"
            path.unlink()
            if swap == "link":
                path.symlink_to("/etc/hosts")
            elif swap == "folder":
                path.mkdir()
            else:
                (tmp_path / "other").write_bytes(b"secret")
                path.hardlink_to(tmp_path / "other")
        rename(source, target, **folders)

    async def story() -> None:
        world = World(tmp_path)
        world.drop("a.wav.json", b"{}")
        world.drop("a.wav")
        async with living(world):
            monkeypatch.setattr(os, "rename", racing)
            await accept_all(world)
            monkeypatch.setattr(os, "rename", rename)
            assert world.heard.jobs == world.heard.failures == []
        assert {"a.wav", "a.wav.json"} <= set(os.listdir(tmp_path / "inbox"))
        assert world.files("spool") == []

    asyncio.run(story())


def test_a_writer_that_comes_at_the_last_moment_is_waited_for_in_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename
    writers: list[IO[bytes]] = []

    def racing(source: str, target: str, **folders: int) -> None:
        if str(target).endswith("/audio") and not writers:
            writers.append((tmp_path / "inbox" / "a.wav").open("ab"))
        rename(source, target, **folders)

    async def story() -> None:
        world = World(tmp_path)
        async with attending(world):
            monkeypatch.setattr(os, "rename", racing)
            world.drop("a.wav", b"first")
            await asyncio.to_thread(_wait_for, lambda: bool(writers))
            world.drop("b.wav")
            await world.heard.until(lambda: bool(world.heard.jobs))
            assert [row.name for row in world.heard.jobs] == ["b.wav"]
            writers[0].write(b" and last")
            writers[0].close()
            await world.heard.counted(2)
            audio = world.spool.audio(world.heard.jobs[1].id)
            assert audio.read_bytes() == b"first and last"

    asyncio.run(story())


def _wait_for(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


# -- backpressure and broken disks ------------------------------------------------------------
def test_a_full_queue_leaves_files_in_the_inbox_until_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, max_queued=2)
        for number in range(5):
            world.drop(f"{number}.wav")
        async with attending(world):
            await world.heard.until(lambda: bool(world.heard.troubles))
            assert "max_queued" in str(world.heard.troubles[-1])
            assert len(world.heard.jobs) == 2
            assert len(world.files("inbox")) == 3
            for job in await world.ledger.claim(2):
                await world.finish(job)
            await world.heard.counted(4)

    asyncio.run(story())


def test_a_disk_without_room_stops_the_claiming_and_goes_on_by_itself(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, min_free_disk=1 << 60)
        world.drop("a.wav")
        async with attending(world) as arrivals:
            await world.heard.until(lambda: bool(world.heard.troubles))
            assert "min_free_disk" in str(world.heard.troubles[0])
            assert world.heard.jobs == []
            arrivals.configure(msgspec.structs.replace(world.arrival_settings, min_free_disk=0))
            await world.heard.counted(1)
            await world.heard.until(lambda: world.heard.troubles[-1] is None)

    asyncio.run(story())


def test_a_disk_that_is_full_for_a_while_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir
    full = [True]

    def failing(path: str, *args: int, **kwargs: int) -> None:
        if full[0] and "/spool/" in str(path):
            raise OSError(28, "no space left on device")
        mkdir(path, *args, **kwargs)

    async def story() -> None:
        world = World(tmp_path)
        world.drop("a.wav")
        async with attending(world):
            monkeypatch.setattr(os, "mkdir", failing)
            world.drop("b.wav")
            await world.heard.until(lambda: any(world.heard.troubles))
            full[0] = False
            await world.heard.counted(2)
            assert sorted(row.name for row in world.heard.jobs) == ["a.wav", "b.wav"]
            counts = await world.ledger.counts()
            assert counts.queued == 2

    asyncio.run(story())


def test_an_input_output_error_ends_the_arrivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_descriptor: int) -> None:
        raise OSError(5, "input/output error")

    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            world.drop("a.wav")
            monkeypatch.setattr(os, "fsync", failing)
            with pytest.raises(StorageBroken, match="start sttd again"):
                await asyncio.wait_for(world.arrivals().run(), 30)
            monkeypatch.undo()
        assert world.files("inbox") == ["inbox/a.wav"]

    asyncio.run(story())


# -- submissions ------------------------------------------------------------------------------
def test_an_upload_becomes_a_job_and_its_key_is_remembered(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            arrivals = world.arrivals()
            ids = []
            for expected in (False, True):
                path = world.spool.new_upload()
                with path.open("wb") as writer:  # still open, as the receiver's is
                    writer.write(b"sound")
                    writer.flush()
                    row, duplicate = await arrivals.accept_upload(
                        path,
                        name="dir/meeting.wav",
                        options='{"priority":3}',
                        priority=None,
                        key="k",
                        uid=1000,
                    )
                assert duplicate is expected
                assert not path.exists()
                ids.append(row.id)
            assert ids[0] == ids[1]
            stored = await world.ledger.job(ids[0])
            assert stored is not None
            assert (stored.state, stored.name, stored.priority, stored.uid) == (
                JobState.QUEUED,
                "meeting.wav",
                3,
                1000,
            )
            assert len(world.heard.jobs) == 1
            assert world.spool.audio(ids[0]).read_bytes() == b"sound"

    asyncio.run(story())


def test_a_submission_that_fails_leaves_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            arrivals = world.arrivals()
            path = world.spool.new_upload()
            path.write_bytes(b"sound")
            mkdir = os.mkdir

            def failing(path: str, _mode: int = 0o777) -> None:
                raise OSError(28, "no space left on device", path)

            monkeypatch.setattr(os, "mkdir", failing)
            with pytest.raises(StorageFull):
                await arrivals.accept_upload(path, name="a.wav", key="k")
            monkeypatch.setattr(os, "mkdir", mkdir)
            assert (await world.ledger.counts()).queued == 0
            assert await world.ledger.in_state(JobState.CLAIMING) == []
            row, duplicate = await arrivals.accept_upload(path, name="a.wav", key="k")
            assert (row.state, duplicate) == (JobState.QUEUED, False)

    asyncio.run(story())


@pytest.mark.parametrize("fails", [False, True])
def test_the_same_key_at_the_same_moment_is_answered_once_the_first_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    mkdir = os.mkdir
    going_on = threading.Event()

    def held_up(path: str, *args: int, **kwargs: int) -> None:
        if "/spool/" in str(path) and not going_on.is_set():
            assert going_on.wait(30)
            if fails:
                raise OSError(28, "no space left on device", path)
        mkdir(path, *args, **kwargs)

    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            arrivals = world.arrivals()
            paths = [world.spool.new_upload() for _ in range(3)]
            for path in paths:
                path.write_bytes(b"sound")
            monkeypatch.setattr(os, "mkdir", held_up)
            first, *later = paths
            begun = asyncio.create_task(arrivals.accept_upload(first, name="a.wav", key="k"))
            async with asyncio.timeout(30):
                while not await world.ledger.in_state(JobState.CLAIMING):
                    pass
            asked = asyncio.create_task(arrivals.admit("k"))
            again = [
                asyncio.create_task(arrivals.accept_upload(path, name="a.wav", key="k"))
                for path in later
            ]
            await asyncio.wait([asked, *again], timeout=0.3)
            going_on.set()
            told, answers = await asked, await asyncio.gather(*again)
            if fails:
                with pytest.raises(StorageFull):
                    await begun
                assert told is None
            else:
                assert told is not None
                answers.append(await begun)
                assert told.state is JobState.QUEUED
            assert {row.id for row, _ in answers} == {row.id for row in world.heard.jobs}
            assert {row.state for row, _ in answers} == {JobState.QUEUED}
            assert sorted(known for _, known in answers) == [False] + [True] * (len(answers) - 1)
            assert [path for path in paths if path.exists()] == ([first] if fails else [])

    asyncio.run(story())


def test_a_key_whose_claim_an_error_has_left_open_is_asked_for_again_later(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            path = world.spool.new_upload()
            path.write_bytes(b"sound")
            signature = signature_of(path.lstat())
            left = NewJob(
                id=new_id(), kind="control", name="a.wav", signature=signature, stem="a", key="k"
            )
            await world.ledger.begin([left])
            arrivals = world.arrivals()
            with pytest.raises(UnsettledError):
                await arrivals.admit("k")
            running = asyncio.create_task(arrivals.run())
            await world.heard.counted(1)
            known = await arrivals.admit("k")
            assert known is not None
            assert (known.id, known.state) == (left.id, JobState.QUEUED)
            arrivals.stop()
            await running

    asyncio.run(story())


def test_nothing_is_submitted_into_a_full_queue_but_a_known_key_is_answered(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        world = World(tmp_path, max_queued=1)
        async with living(world):
            arrivals = world.arrivals()
            path = world.spool.new_upload()
            path.write_bytes(b"sound")
            first, _ = await arrivals.accept_upload(path, name="a.wav", key="k")
            path.write_bytes(b"sound")
            again, duplicate = await arrivals.accept_upload(path, name="a.wav", key="k")
            assert duplicate
            assert again.id == first.id
            path.write_bytes(b"sound")
            with pytest.raises(QueueFullError, match="max_queued"):
                await arrivals.accept_upload(path, name="b.wav")

    asyncio.run(story())


def test_the_queue_is_not_overrun_by_those_who_submit_at_the_same_moment(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, max_queued=3)
        async with living(world):
            arrivals = world.arrivals()
            paths = [world.spool.new_upload() for _ in range(12)]
            for path in paths:
                path.write_bytes(b"sound")
            told = await asyncio.gather(
                *(arrivals.accept_upload(path, name=path.name) for path in paths),
                return_exceptions=True,
            )
            assert [type(one) for one in told if isinstance(one, Exception)] == [QueueFullError] * 9
            assert (await world.ledger.counts()).queued == 3

    asyncio.run(story())


def test_invalid_options_of_a_submission_are_an_error(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            path = world.spool.new_upload()
            path.write_bytes(b"sound")
            with pytest.raises(OptionsError):
                await world.arrivals().accept_upload(path, name="a.wav", options='{"x":1}')

    asyncio.run(story())


@pytest.mark.parametrize("kernel_copies", [True, False])
def test_a_file_by_reference_is_copied_and_left_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kernel_copies: bool
) -> None:
    def failing(*_args: int) -> int:
        raise OSError(18, "invalid cross-device link")

    if not kernel_copies:
        monkeypatch.setattr(os, "copy_file_range", failing)
    allowed = tmp_path / "allowed"
    (allowed / "sub").mkdir(parents=True)
    source = allowed / "sub" / "a.wav"
    source.write_bytes(os.urandom(100_000))

    async def story() -> None:
        world = World(tmp_path / "state", allow_paths=(allowed,))
        async with living(world):
            row, _ = await world.arrivals().accept_path(
                source, options="{}", priority=5, key=None, uid=os.getuid()
            )
            assert row.priority == 5
            assert world.spool.audio(row.id).read_bytes() == source.read_bytes()
            assert list(world.spool.uploads.iterdir()) == []

    asyncio.run(story())


def _outside(allowed: Path) -> Path:
    path = allowed.parent / "outside.wav"
    path.write_bytes(b"x")
    return path


def _dots(allowed: Path) -> Path:
    _outside(allowed)
    return allowed / ".." / "outside.wav"


def _linked(allowed: Path) -> Path:
    (allowed / "link.wav").symlink_to(_outside(allowed))
    return allowed / "link.wav"


def _linked_folder(allowed: Path) -> Path:
    _outside(allowed)
    (allowed / "up").symlink_to("..")
    return allowed / "up" / "outside.wav"


def _private(allowed: Path) -> Path:
    path = allowed / "private.wav"
    path.write_bytes(b"x")
    path.chmod(0o600)
    return path


def _private_folder(allowed: Path) -> Path:
    folder = allowed / "private"
    folder.mkdir(mode=0o700)
    (folder / "a.wav").write_bytes(b"x")
    return folder / "a.wav"


def _listed(allowed: Path) -> Path:
    """Everybody may read it, but for the one whom its access control list names."""
    path = allowed / "a.wav"
    path.write_bytes(b"x")
    path.chmod(0o644)
    owner, user, group, mask, others = 0x01, 0x02, 0x04, 0x10, 0x20  # linux/posix_acl.h
    entries = ((owner, 6, -1), (user, 0, 65534), (group, 4, -1), (mask, 4, -1), (others, 4, -1))
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", data)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error.strerror}")
    return path


def _device(allowed: Path) -> Path:
    os.mkfifo(allowed / "pipe.wav")
    return allowed / "pipe.wav"


def _huge(allowed: Path) -> Path:
    path = allowed / "huge.wav"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    return path


def _missing(allowed: Path) -> Path:
    return allowed / "none.wav"


def _folder(allowed: Path) -> Path:
    return allowed


@pytest.mark.parametrize(
    "make",
    [
        _outside,
        _dots,
        _linked,
        _linked_folder,
        _private,
        _private_folder,
        _listed,
        _device,
        _huge,
        _missing,
        _folder,
    ],
)
def test_a_reference_that_the_client_may_not_use_is_refused(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir(mode=0o755)
    path = make(allowed)

    async def story() -> None:
        world = World(tmp_path / "state", allow_paths=(allowed,))
        async with living(world):
            with pytest.raises(RefusedError):
                await world.arrivals().accept_path(
                    path, options="{}", priority=None, key=None, uid=65534
                )
            assert list(world.spool.uploads.iterdir()) == []

    asyncio.run(story())


def test_a_reference_that_the_clients_own_disk_cannot_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "a.wav").write_bytes(b"sound")

    read = os.read

    def failing(descriptor: int, most: int, *_more: int) -> bytes:
        if "/allowed/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(5, "input/output error")
        return read(descriptor, most)

    async def story() -> None:
        world = World(tmp_path / "state", allow_paths=(allowed,))
        async with living(world):
            monkeypatch.setattr(os, "copy_file_range", failing)
            monkeypatch.setattr(os, "read", failing)
            with pytest.raises(RefusedError, match="input/output error"):
                await world.arrivals().accept_path(
                    allowed / "a.wav", options="{}", priority=None, key=None, uid=os.getuid()
                )
            assert list(world.spool.uploads.iterdir()) == []

    asyncio.run(story())
