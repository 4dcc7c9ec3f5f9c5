"""The walls around a decoder, tried from inside."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

PRISONER = """
import ctypes, json, os, resource, socket, sys, threading, mmap
from sttd.worker import sandbox
writable = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
readable = sys.argv[1]
standing = sandbox.confine()
libc = ctypes.CDLL(None)

def attempt(action):
    try:
        action()
    except MemoryError:
        return "MemoryError"
    except OSError as error:
        return error.errno

def open_all():
    while True:
        taken.append(os.dup(0))

taken = []
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as line:
        line.connect(address)

def thread():
    try:
        threading.Thread(target=print).start()
    except RuntimeError as error:
        raise OSError(1, "thread") from error

barred = {
    "read a file": lambda: os.open(readable, os.O_RDONLY),
    "make a file": lambda: os.open("/tmp/made", os.O_WRONLY | os.O_CREAT),
    "delete a file": lambda: os.unlink(readable),
    "rename a file": lambda: os.rename(readable, readable + "2"),
    "list a folder": lambda: os.listdir("/"),
    "connect": lambda: connect(socket.AF_INET, ("127.0.0.1", 9)),
    "connect over unix": lambda: connect(socket.AF_UNIX, "/run/x"),
    "send datagrams": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "talk to the kernel": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os._exit(0) if os.fork() == 0 else None,
    "signal": lambda: os.kill(os.getppid(), 0),
    "have executable memory": lambda: mmap.mmap(-1, 4096, prot=7),
    "start a thread": thread,
    "hold a file in memory": lambda: os.memfd_create("x"),
}
done = {name: attempt(action) for name, action in barred.items()}
print(json.dumps({
    "standing": standing,
    "barred": done,
    "environment": dict(os.environ),
    "write": attempt(lambda: os.write(writable, b"x")),
    "allocate": attempt(lambda: bytearray(600 << 20)),
    "open": attempt(open_all),
    "taken": len(taken),
    "dumpable": libc.prctl(3, 0, 0, 0, 0),
    "no_new_privileges": libc.prctl(39, 0, 0, 0, 0),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "processes": resource.getrlimit(resource.RLIMIT_NPROC),
}), flush=True)
"""

SPINNER = """
from sttd.worker import sandbox
sandbox.CPU_BASE_S = 0.0
sandbox.confine()
sandbox.grant_cpu(0.0)
while True:
    pass
"""


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "STTD_CREDENTIAL_KEY": "secret"},
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = _run(PRISONER, str(tmp_path_factory.mktemp("prison") / "file"))
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_no_environment_is_left(found: dict[str, Any]) -> None:
    assert found["environment"] == {}


def test_nothing_can_be_written_to_a_file(found: dict[str, Any]) -> None:
    assert found["write"] == errno.EFBIG


def test_memory_is_bounded(found: dict[str, Any]) -> None:
    assert found["allocate"] == "MemoryError"


def test_few_descriptors_can_be_opened(found: dict[str, Any]) -> None:
    assert found["open"] == errno.EMFILE
    assert 5 <= found["taken"] <= 20


def test_no_core_dump_is_left_and_no_privilege_gained(found: dict[str, Any]) -> None:
    assert found["core"] == [0, 0]
    assert found["dumpable"] == 0
    assert found["no_new_privileges"] == 1


def test_no_process_can_be_started_but_by_root(found: dict[str, Any]) -> None:
    assert found["processes"] == [0, 0]


def test_a_job_that_uses_more_cpu_than_it_was_granted_ends_the_decoder() -> None:
    assert _run(SPINNER).returncode == -signal.SIGXCPU


BARRED = [
    "read a file",
    "make a file",
    "delete a file",
    "rename a file",
    "list a folder",
    "connect",
    "connect over unix",
    "send datagrams",
    "talk to the kernel",
    "run a program",
    "fork",
    "signal",
    "have executable memory",
    "start a thread",
    "hold a file in memory",
]
BY_LANDLOCK = {"read a file", "list a folder"}


@pytest.mark.parametrize("deed", BARRED)
def test_no_way_out_is_open(found: dict[str, Any], deed: str) -> None:
    wall = "landlock" if deed in BY_LANDLOCK else "seccomp"
    if wall not in found["standing"]:
        pytest.skip(f"this kernel has no {wall}")
    assert found["barred"][deed] in (errno.EPERM, errno.EACCES)


def test_which_walls_stand_can_be_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sttd", "check-sandbox"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert "resource limits: active" in done.stdout
    assert "landlock: " in done.stdout
    assert "seccomp: " in done.stdout
    assert done.returncode == (1 if "missing" in done.stdout else 0)


def test_what_is_asked_can_be_written_to_a_file(tmp_path: Path) -> None:
    """Behind the walls no file can be written: whoever prints must stand outside."""
    with (tmp_path / "said").open("wb") as file:
        subprocess.run(
            [sys.executable, "-m", "sttd", "check-sandbox"],
            stdout=file,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
    assert "resource limits: active" in (tmp_path / "said").read_text()
