"""What the inbox finds, what it leaves alone, and what it refuses; on real files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sttd.supervisor.beneath import FILE, open_beneath, rename_noreplace
from sttd.supervisor.inbox import Candidate, Found, InboxUnavailable, LoneSidecar, Rejection
from sttd.supervisor.lease import is_being_written
from tests.support.files import Clocks, World


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def world(tmp_path: Path, clocks: Clocks) -> Iterator[World]:
    world = World(tmp_path, settle_s=2.0, clock=clocks.clock())
    yield world
    world.syncer.close()


def scan(world: World) -> list[Found]:
    found: list[Found] = []
    while True:
        piece = world.inbox.scan()
        found += piece.found
        if piece.finished:
            return found


def candidates(found: list[Found]) -> list[str]:
    return sorted(one.name for one in found if isinstance(one, Candidate))


def rejections(found: list[Found]) -> dict[str, str]:
    return {one.name: one.reason for one in found if isinstance(one, Rejection)}


def prepared(world: World) -> list[str]:
    """The names of those that would be claimed now."""
    found = [one for one in scan(world) if isinstance(one, Candidate)]
    jobs, _ = world.inbox.prepare(found)
    return sorted(job.name for job in jobs)


# -- settling ---------------------------------------------------------------------------------
def test_a_file_is_found_once_it_has_settled(world: World, clocks: Clocks) -> None:
    world.drop("a.wav")
    assert candidates(scan(world)) == []
    clocks.tick(2.0)
    assert candidates(scan(world)) == ["a.wav"]


def test_a_file_that_grows_is_left_until_it_stays_the_same(world: World, clocks: Clocks) -> None:
    path = world.drop("a.wav")
    for _ in range(5):
        assert candidates(scan(world)) == []
        clocks.tick(1.9)
        with path.open("ab") as file:
            file.write(b"more")
    assert candidates(scan(world)) == []
    clocks.tick(2.0)
    assert candidates(scan(world)) == ["a.wav"]


def test_an_upload_with_its_final_size_and_an_old_mtime_is_still_seen_to_change(
    world: World, clocks: Clocks
) -> None:
    path = world.drop("a.wav", b"\0" * 100)
    os.utime(path, ns=(1, 1))
    scan(world)
    clocks.tick(1.9)
    with path.open("r+b") as file:
        file.write(b"x" * 10)
    os.utime(path, ns=(1, 1))
    clocks.tick(0.2)
    assert candidates(scan(world)) == []


def test_a_look_finds_what_is_due_without_a_scan(world: World, clocks: Clocks) -> None:
    world.drop("a/b.wav")
    scan(world)
    assert world.inbox.next_look() == clocks.boottime_s + 2.0
    clocks.tick(2.0)
    assert candidates(world.inbox.look()) == ["a/b.wav"]


def test_an_empty_file_is_given_a_longer_grace(world: World, clocks: Clocks) -> None:
    world.drop("a.wav", b"")
    scan(world)
    clocks.tick(59.0)
    assert candidates(scan(world)) == []
    clocks.tick(1.0)
    assert candidates(scan(world)) == ["a.wav"]


def test_a_walk_in_pieces_finds_everything_once(world: World, clocks: Clocks) -> None:
    wanted = sorted(world.drop(f"{n % 7}/{n}.wav").name for n in range(300))
    scan(world)
    clocks.tick(2.0)
    found: list[Found] = []
    pieces = 0
    finished = False
    while not finished:
        piece = world.inbox.scan(limit=50)
        assert len(piece.found) <= 50
        found += piece.found
        finished, pieces = piece.finished, pieces + 1
    assert pieces > 5
    assert sorted(Path(name).name for name in candidates(found)) == wanted


# -- writers ----------------------------------------------------------------------------------
def _open_writer(path: Path) -> contextlib.AbstractContextManager[object]:
    return path.open("ab")


@contextlib.contextmanager
def _writing_child(path: Path) -> Iterator[object]:
    """A process that inherited the only descriptor."""
    with path.open("ab") as file:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"],
            stdin=subprocess.PIPE,
            pass_fds=[file.fileno()],
        )
    try:
        yield child
    finally:
        child.communicate()


@contextlib.contextmanager
def _mapping(path: Path) -> Iterator[object]:
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    try:
        yield memory
    finally:
        memory.close()


@pytest.mark.parametrize("writer", [_open_writer, _writing_child, _mapping])
def test_a_file_that_is_still_open_for_writing_is_left_alone(
    world: World,
    clocks: Clocks,
    writer: Callable[[Path], contextlib.AbstractContextManager[object]],
) -> None:
    path = world.drop("a.wav")
    with writer(path):
        scan(world)
        clocks.tick(100.0)
        assert prepared(world) == []
        due = world.inbox.next_look()
        assert due is not None
        assert due - clocks.boottime_s < 0.1
    clocks.tick(0.1)
    assert candidates(world.inbox.look()) == ["a.wav"]
    assert prepared(world) == ["a.wav"]


def test_a_probe_leaves_no_lease_behind(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    reader = os.open(path, os.O_RDONLY)
    try:
        assert is_being_written(reader) is False
        assert fcntl.fcntl(reader, fcntl.F_GETLEASE) == fcntl.F_UNLCK
        with path.open("ab"):
            assert is_being_written(reader) is True
    finally:
        os.close(reader)


def test_where_the_kernel_cannot_tell_of_writers_the_wait_is_longer(
    world: World, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sttd.supervisor.entrance.is_being_written", lambda _fd: None)
    world.drop("a.wav")
    scan(world)
    clocks.tick(2.0)
    assert prepared(world) == []
    clocks.tick(7.9)
    assert prepared(world) == []
    clocks.tick(0.1)
    assert prepared(world) == ["a.wav"]


# -- names ------------------------------------------------------------------------------------
def test_unfinished_and_foreign_names_are_left_alone_in_silence(
    world: World, clocks: Clocks
) -> None:
    for name in ("a.pdf", ".a.wav", "a.wav.part", "~a.wav", ".tmp/a.wav", "@eaDir/a.wav", "a.wav~"):
        world.drop(name)
    scan(world)
    clocks.tick(700.0)
    assert scan(world) == []


def test_a_temporary_name_that_becomes_a_final_one_is_found(world: World, clocks: Clocks) -> None:
    path = world.drop("a.wav.part")
    clocks.tick(2.0)
    assert scan(world) == []
    path.rename(world.inbox_path / "a.wav")
    scan(world)
    clocks.tick(2.0)
    assert candidates(scan(world)) == ["a.wav"]


@pytest.mark.parametrize(
    "name", [b"caf\xe9.wav", b"two\nlines.wav", b"-rf.wav", b"x" * 251 + b".wav", b" .wav"]
)
def test_hostile_names_are_found(world: World, clocks: Clocks, name: bytes) -> None:
    path = os.fsencode(world.inbox_path) + b"/" + name
    with open(path, "wb") as file:
        file.write(b"x")
    scan(world)
    clocks.tick(2.0)
    assert candidates(scan(world)) == [os.fsdecode(name)]
    assert prepared(world) == [os.fsdecode(name)]


# -- folders ----------------------------------------------------------------------------------
def test_a_tree_that_was_moved_in_is_found_whole(
    world: World, clocks: Clocks, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "b" / "c").mkdir(parents=True)
    for name in ("1.wav", "b/2.wav", "b/c/3.wav"):
        (tree / name).write_bytes(b"x")
    tree.rename(world.inbox_path / "a")
    scan(world)
    clocks.tick(2.0)
    assert candidates(scan(world)) == ["a/1.wav", "a/b/2.wav", "a/b/c/3.wav"]


def test_folders_are_passed_over_when_the_inbox_is_flat(tmp_path: Path, clocks: Clocks) -> None:
    world = World(tmp_path, clock=clocks.clock(), recursive=False)
    world.drop("a.wav")
    world.drop("b/c.wav")
    assert candidates(scan(world)) == ["a.wav"]
    assert world.inbox.look(["b/c.wav"]) == []
    world.syncer.close()


def test_what_lies_too_deep_is_refused_with_a_reason(world: World, clocks: Clocks) -> None:
    world.drop("1/2/3/4/5/6/7/8/a.wav")
    world.drop("1/2/3/4/5/6/7/8/9/b.wav")
    found = scan(world)
    assert "deeper than 8" in rejections(found)["1/2/3/4/5/6/7/8/9"]
    clocks.tick(2.0)
    assert candidates(scan(world)) == ["1/2/3/4/5/6/7/8/a.wav"]


def test_an_inbox_that_is_gone_is_told_as_such(world: World) -> None:
    world.inbox_path.rename(world.root / "elsewhere")
    with pytest.raises(InboxUnavailable, match="inbox"):
        world.inbox.scan()
    world.inbox_path.mkdir()
    world.drop("a.wav")
    assert scan(world) == []


# -- what is refused --------------------------------------------------------------------------
def _symlink(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _hard_link(path: Path) -> None:
    other = path.parent.parent / "other"
    other.write_bytes(b"x")
    path.hardlink_to(other)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_symlink, "symbolic link"),
        (_hard_link, "2 names"),
        (_fifo, "named pipe"),
        (_socket, "socket"),
    ],
)
def test_what_is_no_plain_file_is_refused_once_and_stays_where_it_is(
    world: World, clocks: Clocks, make: Callable[[Path], None], reason: str
) -> None:
    path = world.inbox_path / "a.wav"
    make(path)
    assert reason in rejections(scan(world))["a.wav"]
    clocks.tick(100.0)
    assert scan(world) == []
    assert scan(world) == []
    assert os.path.lexists(path)


def test_a_hard_link_is_taken_when_its_other_name_is_gone(world: World, clocks: Clocks) -> None:
    path = world.inbox_path / "a.wav"
    _hard_link(path)
    assert "a.wav" in rejections(scan(world))
    (world.root / "other").unlink()
    scan(world)
    clocks.tick(2.0)
    assert prepared(world) == ["a.wav"]


def test_a_linked_folder_is_refused_and_not_looked_into(
    world: World, clocks: Clocks, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.wav").write_bytes(b"x")
    (world.inbox_path / "folder").symlink_to(outside)
    assert "symbolic link" in rejections(scan(world))["folder"]
    clocks.tick(100.0)
    assert scan(world) == []
    assert world.inbox.look(["folder/a.wav"]) == []


def test_a_hint_that_leaves_the_inbox_is_worth_nothing(world: World, clocks: Clocks) -> None:
    (world.root / "a.wav").write_bytes(b"x")
    clocks.tick(100.0)
    assert world.inbox.look(["../a.wav", "/etc/a.wav", "", "x/../../a.wav"]) == []


def test_a_recording_whose_sidecar_is_a_link_is_refused(world: World, clocks: Clocks) -> None:
    world.drop("a.wav")
    (world.inbox_path / "a.wav.json").symlink_to("/etc/passwd")
    scan(world)
    clocks.tick(100.0)
    found = [one for one in scan(world) if isinstance(one, Candidate)]
    jobs, refused = world.inbox.prepare(found)
    assert jobs == []
    assert "its sidecar" in refused[0].reason
    assert world.inbox.prepare(found) == ([], [])


# -- sidecars ---------------------------------------------------------------------------------
def test_a_sidecar_comes_with_its_recording(world: World, clocks: Clocks) -> None:
    world.drop("a.wav.json", b'{"priority":7,"languages":["de-DE"]}')
    world.drop("a.wav")
    scan(world)
    clocks.tick(2.0)
    found = [one for one in scan(world) if isinstance(one, Candidate)]
    [job], _ = world.inbox.prepare(found)
    assert job.priority == 7
    assert '"languages":["de-DE"]' in job.options
    assert job.sidecar is not None


def test_a_lone_sidecar_is_told_of_after_ten_minutes(world: World, clocks: Clocks) -> None:
    world.drop("a.wav.json", b"{}")
    world.drop("notes.json", b"{}")
    scan(world)
    clocks.tick(599.0)
    assert scan(world) == []
    clocks.tick(1.5)
    assert scan(world) == [LoneSidecar("a.wav.json")]


# -- memory -----------------------------------------------------------------------------------
def test_a_file_that_changed_between_scan_and_claim_waits_again(
    world: World, clocks: Clocks
) -> None:
    path = world.drop("a.wav")
    scan(world)
    clocks.tick(2.0)
    found = [one for one in scan(world) if isinstance(one, Candidate)]
    with path.open("ab") as file:
        file.write(b"x")
    assert world.inbox.prepare(found) == ([], [])
    assert candidates(scan(world)) == []


# -- openat2 and its fallback -------------------------------------------------------------------
@pytest.fixture(params=["openat2", "step by step"])
def opening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "openat2":
        # a system call that no kernel has: ENOSYS, as before Linux 5.6 or under seccomp
        import ctypes  # noqa: PLC0415

        monkeypatch.setattr("sttd.supervisor.beneath._SYS_OPENAT2", ctypes.c_long(100_000))
    return str(request.param)


@pytest.mark.usefixtures("opening")
def test_opening_never_leaves_the_folder_nor_follows_a_link(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    (inside / "sub").mkdir(parents=True)
    (inside / "sub" / "ok").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (inside / "link").symlink_to("../secret")
    (inside / "away").symlink_to("..")
    (inside / "sub" / "up").symlink_to("/")
    root = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.close(open_beneath(root, "sub/ok", FILE))
        os.close(open_beneath(root, "sub/ok", os.O_PATH))
        for name in (
            "link",
            "away/secret",
            "sub/up/etc/passwd",
            "../secret",
            str(tmp_path / "secret"),
        ):
            for flags in (FILE, os.O_PATH):
                with pytest.raises(OSError, match=r"."):
                    open_beneath(root, name, flags)
        with pytest.raises(FileNotFoundError):
            open_beneath(root, "sub/none", FILE)
    finally:
        os.close(root)


@pytest.mark.usefixtures("opening")
def test_opening_leaks_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "file").write_bytes(b"x")
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        before = len(os.listdir("/proc/self/fd"))
        for name in ("link", "file", "none", "../x"):
            with contextlib.suppress(OSError):
                os.close(open_beneath(root, name, os.O_PATH))
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(root)


@pytest.mark.parametrize("how", ["renameat2", "link and unlink"])
def test_renaming_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how != "renameat2":
        monkeypatch.setattr("sttd.supervisor.beneath._renameat2", lambda *_: 38)  # ENOSYS
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    with pytest.raises(FileExistsError):
        rename_noreplace(str(one), str(two))
    assert (one.read_text(), two.read_text()) == ("1", "2")
    two.unlink()
    rename_noreplace(str(one), str(two))
    assert two.read_text() == "1"
    assert not one.exists()
    with pytest.raises(FileNotFoundError):
        rename_noreplace(str(one), str(two))


def test_a_rename_by_links_that_was_cut_in_half_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sttd.supervisor.beneath._renameat2", lambda *_: 38)
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.hardlink_to(one)
    rename_noreplace(str(one), str(two))
    assert not one.exists()
    assert two.read_text() == "1"


@pytest.mark.parametrize("filtered", [False, True], ids=["refused", "filtered"])
def test_a_rename_that_is_refused_leaves_the_file_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, filtered: bool
) -> None:
    """As for a file of somebody else's in a folder with the sticky bit, which may be linked."""

    def refusing(_source_folder: int, source: str, *_: object) -> int:
        return errno.EPERM if source or filtered else errno.ENOENT

    def not_unlinking(path: str, **folder: int | None) -> None:
        if path == str(one):
            raise PermissionError(errno.EPERM, "operation not permitted")
        unlink(path, **folder)

    one, two, unlink = tmp_path / "one", tmp_path / "two", os.unlink
    one.write_text("1")
    monkeypatch.setattr("sttd.supervisor.beneath._renameat2", refusing)
    monkeypatch.setattr(os, "unlink", not_unlinking)
    with pytest.raises(PermissionError):
        rename_noreplace(str(one), str(two))
    assert os.listdir(tmp_path) == ["one"]
