"""Uploads of every kind into a living inbox: each becomes one job, with all of its bytes.

Real programs where there are any (cp, rsync, an sftp server), and the kernel's own limits of
inotify. What is waited for is always that the job is there, whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mmap
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sttd.supervisor import doorbell, inotify
from sttd.supervisor.inotify import Event, Inotify
from tests.support.files import World, attending

SETTLE_S = 0.4
SFTP = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")
Upload = Callable[[Path, Path], None]  # of a recording, to a path in the inbox


def wait(seconds: float) -> None:
    """An uploader's pause; nothing is waited for by it."""
    threading.Event().wait(seconds)


def run(*command: str | Path) -> None:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=60)


# -- ways of uploading ----------------------------------------------------------------------------
def by_cp(source: Path, target: Path) -> None:
    run("cp", source, target)


def by_cp_that_keeps_times(source: Path, target: Path) -> None:
    os.utime(source, (1, 1))
    run("cp", "-p", source, target)


def by_rsync(source: Path, target: Path) -> None:
    run("rsync", "--bwlimit=1500", source, target)


def by_rsync_in_place(source: Path, target: Path) -> None:
    run("rsync", "--inplace", "--bwlimit=1500", source, target)


def by_rsync_over_an_older_one(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[:-5000] + bytes(5000))
    run("rsync", "--inplace", "--ignore-times", "--no-whole-file", source, target)


def sftp(target: Path, *lines: str) -> None:
    server = next((path for path in SFTP if Path(path).exists()), None)
    if server is None:
        pytest.skip("no sftp server is installed (apt: openssh-sftp-server)")
    batch = target.parent.parent / "batch"
    batch.write_text("\n".join(lines) + "\n")
    run("sftp", "-q", "-D", server, "-b", batch)


def by_sftp(source: Path, target: Path) -> None:
    sftp(target, f"put {source} {target}")


def by_sftp_resumed(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[:100_000])  # broke off here
    sftp(target, f"reput {source} {target}")


def slowly(source: Path, target: Path) -> None:
    data = source.read_bytes()
    with target.open("wb") as file:
        for start in range(0, len(data), len(data) // 20):
            file.write(data[start : start + len(data) // 20])
            file.flush()
            wait(0.05)


def stalled(source: Path, target: Path) -> None:
    """Nothing happens for longer than `settle`, but somebody has it open."""
    data = source.read_bytes()
    with target.open("wb") as file:
        file.write(data[:1000])
        file.flush()
        wait(3 * SETTLE_S)
        file.write(data[1000:])


def reopened(source: Path, target: Path) -> None:
    """Like a scanner that adds page after page: closed in between, but not for long."""
    data = source.read_bytes()
    for start in range(0, len(data), len(data) // 6):
        with target.open("ab") as file:
            file.write(data[start : start + len(data) // 6])
        wait(SETTLE_S / 4)


def in_place(source: Path, target: Path) -> None:
    """Its whole size at once, then the bytes, with the times of the source set at the end."""
    data = source.read_bytes()
    with target.open("wb") as file:
        file.truncate(len(data))
        wait(2 * SETTLE_S)
        file.write(data)
    os.utime(target, (1, 1))


def mapped(source: Path, target: Path) -> None:
    """Written through memory, its descriptor long closed."""
    data = source.read_bytes()
    with target.open("w+b") as file:
        file.truncate(len(data))
        memory = mmap.mmap(file.fileno(), len(data))
    wait(2 * SETTLE_S)
    memory[:] = data
    memory.close()


def renamed(source: Path, target: Path) -> None:
    draft = target.with_name(target.name + ".part")
    slowly(source, draft)
    draft.rename(target)


def linked(source: Path, target: Path) -> None:
    """Linked into the inbox, then the first name is taken away."""
    draft = target.parent.parent / "draft"
    shutil.copy(source, draft)
    target.hardlink_to(draft)
    wait(2 * SETTLE_S)
    draft.unlink()


def unnamed(source: Path, target: Path) -> None:
    """O_TMPFILE: it gets its name when it is whole."""
    file = os.open(target.parent, os.O_TMPFILE | os.O_WRONLY, 0o644)
    ours = os.open(
        "/proc/self/fd", os.O_RDONLY
    )  # with a folder Python asks linkat(2), which follows
    try:
        os.write(file, source.read_bytes())
        os.link(str(file), target, src_dir_fd=ours, follow_symlinks=True)
    finally:
        os.close(ours)
        os.close(file)


def in_a_tree(source: Path, target: Path) -> None:
    tree = target.parent.parent / "tree"
    (tree / "deep").mkdir(parents=True)
    shutil.copy(source, tree / "deep" / target.name)
    tree.rename(target.parent / "tree")


WAYS: list[Upload] = [
    by_cp, by_cp_that_keeps_times, by_rsync, by_rsync_in_place, by_rsync_over_an_older_one,
    by_sftp, by_sftp_resumed, slowly, stalled, reopened, in_place, mapped, renamed, linked,
    unnamed, in_a_tree,
]  # fmt: skip


@pytest.mark.parametrize("upload", WAYS, ids=lambda way: way.__name__)
def test_an_upload_becomes_one_job_with_all_its_bytes(tmp_path: Path, upload: Upload) -> None:
    sound = random.Random(1).randbytes(600_000)
    source = tmp_path / "source.wav"
    source.write_bytes(sound)

    async def story() -> None:
        world = World(tmp_path, settle_s=SETTLE_S, rescan_s=1.0)
        async with attending(world):
            await asyncio.to_thread(upload, source, world.inbox_path / "a.wav")
            await world.heard.counted(1)
            world.drop("after.wav")
            await world.heard.until(lambda: any(r.name == "after.wav" for r in world.heard.jobs))
            first, *others = world.heard.jobs
            assert [row.name for row in others] == ["after.wav"]
            assert first.name.endswith("a.wav")
            audio = world.spool.audio(first.id).read_bytes()
            assert hashlib.sha256(audio).digest() == hashlib.sha256(sound).digest()
        left = {name for name in world.files("inbox") if name.endswith(".wav")}
        assert left == set()

    asyncio.run(story())


# -- options --------------------------------------------------------------------------------------
def test_options_that_come_while_their_recording_settles_travel_with_it(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, settle_s=SETTLE_S)
        async with attending(world):
            world.drop("a.wav")
            world.drop("a.wav.json", b'{"priority":7}')
            [row] = await world.heard.counted(1)
            assert row.priority == 7

    asyncio.run(story())


def test_options_that_come_too_late_change_nothing_and_end_with_their_reason(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        world = World(tmp_path, lone_sidecar_s=0.2, rescan_s=0.2)
        async with attending(world):
            world.drop("a.wav")
            [row] = await world.heard.counted(1)
            world.drop("a.wav.json", b'{"priority":7}')
            await world.heard.until(lambda: bool(world.heard.rejections))
            assert "without a recording" in world.heard.rejections[0].reason
            assert row.priority == 0
        assert (tmp_path / "failed" / "a.wav.json.error.json").exists()

    asyncio.run(story())


def test_marks_of_other_programs_are_left_alone_and_hold_nothing_up(tmp_path: Path) -> None:
    """sttd waits for no `.done` file: it sees by itself whether an upload is over."""

    async def story() -> None:
        world = World(tmp_path, rescan_s=0.2)
        async with attending(world):
            for name in ("a.wav.done", "a.wav.md5", "Thumbs.db", ".a.wav.Xq3f"):
                world.drop(name)
            world.drop("a.wav")
            await world.heard.counted(1)
            world.drop("b.wav")
            await world.heard.counted(2)
            assert world.heard.rejections == []
        assert len(world.files("inbox")) == 4

    asyncio.run(story())


# -- inotify at its limits ------------------------------------------------------------------------
@contextlib.contextmanager
def sysctl(name: str, value: int) -> Iterator[None]:
    """Another value for a while; skip where it cannot be set."""
    path = Path("/proc/sys") / name
    try:
        before = path.read_text()
        path.write_text(str(value))
    except OSError as error:
        pytest.skip(f"{path}: {error.strerror}")
    try:
        yield
    finally:
        path.write_text(before)


def test_files_whose_notifications_overflowed_are_found_by_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue holds 16 events, and nobody reads it while two hundred files arrive."""
    made = threading.Event()
    lost: list[Event] = []

    class Small(Inotify):
        """The real one, with a short queue."""

        def __init__(self) -> None:
            with sysctl("fs/inotify/max_queued_events", 16):
                super().__init__()
            made.set()

        def read(self) -> list[Event]:
            events = super().read()
            lost.extend(event for event in events if event.mask & inotify.Q_OVERFLOW)
            return events

    monkeypatch.setattr(doorbell, "Inotify", Small)

    async def story() -> None:
        world = World(tmp_path, rescan_s=30.0)
        async with attending(world):
            await asyncio.to_thread(made.wait, 20)
            for n in range(200):  # in one go: the loop reads nothing meanwhile
                world.drop(f"{n}.wav")
            await world.heard.counted(200)
            assert lost
            world.drop("later.wav")
            await world.heard.counted(201)
            assert len({row.name for row in world.heard.jobs}) == 201

    asyncio.run(story())


WATCHLESS = """
import asyncio, sys
from pathlib import Path
from typing import Self
from tests.support.files import World, attending

async def story():
    world = World(Path(sys.argv[1]), rescan_s=0.5)
    async with attending(world):
        await world.heard.until(lambda: bool(world.heard.rejections))
        print(world.heard.rejections[0].reason, flush=True)
        for n in range(20):
            (world.inbox_path / str(n)).mkdir()
            world.drop(f"{n}/a.wav")
        await world.heard.counted(20)
        print(len({row.name for row in world.heard.jobs}), flush=True)

asyncio.run(story())
"""


def test_without_a_single_watch_left_the_rescan_finds_everything(tmp_path: Path) -> None:
    """In a user namespace of its own, so that nobody else misses the watches."""
    script = 'echo 0 > /proc/sys/user/max_inotify_watches && exec "$@"'
    command = ["unshare", "-Ur", "sh", "-c", script, "sh", sys.executable, "-c", WATCHLESS]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [*command, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    if "unshare" in done.stderr or "max_inotify_watches" in done.stderr:
        pytest.skip(f"no user namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    told, count = done.stdout.splitlines()
    assert "noticed by the rescan only" in told
    assert count == "20"
