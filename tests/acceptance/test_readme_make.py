"""The README's `make demo` and `make run`, with the environment of these tests as its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import ROOT
from tests.support.waiting import eventually

PROGRAMS = Path(sys.prefix) / "bin"
SPOKEN = ROOT / "tests" / "recordings" / "closed-on-sunday.wav"
# What make env would make: the environment is there, and nothing is installed.
MAKE = ["make", "--old-file", f"{sys.prefix}/.runs", f"VENV={sys.prefix}"]


@pytest.fixture(autouse=True)
def _equipped() -> None:
    pytest.importorskip("pocketsphinx", reason="the extra pocketsphinx is not installed")
    if shutil.which("make") is None or not (PROGRAMS / "sttd").exists():
        pytest.skip("make or the environment of the project is missing")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A clone's Makefile in a folder of its own, with a short name: sockets are made in it."""
    with tempfile.TemporaryDirectory(prefix="sttd-") as name:
        for file in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / file, name)
        yield Path(name)


def test_the_demonstration_transcribes_what_it_is_given_and_recycles_workers() -> None:
    done = subprocess.run(
        [*MAKE, "demo", f"AUDIO={SPOKEN}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "as it should be" in done.stdout
    assert "sunday" in done.stdout


def test_a_daemon_that_stays_answers_to_the_command_that_is_printed(folder: Path) -> None:
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen([*MAKE, "run"], cwd=folder, stdout=out, stderr=out)
    try:
        eventually((folder / "var" / "control.sock").exists, "the daemon listens")
        printed = next(line for line in log.read_text().splitlines() if "sttctl" in line)
        told = subprocess.run(
            ["sh", "-c", f"{printed.strip()} --json"], cwd=folder, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        shutil.copy(SPOKEN, folder / "var" / "inbox")
        eventually((folder / "var" / "outbox" / "closed-on-sunday.txt").exists, "a transcript")
        pid = int(told.stdout.split('"pid":')[1].split(",")[0])
        os.kill(pid, signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()[-3000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
