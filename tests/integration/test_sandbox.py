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
import ctypes, json, os, resource, sys
from sttd.worker import sandbox
writable = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
sandbox.confine()
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
print(json.dumps({
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
