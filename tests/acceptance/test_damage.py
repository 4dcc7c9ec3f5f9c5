"""What operators meet when a machine is not as it should be: a damaged ledger, a missing wall."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone


def sttd(*args: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*under, sys.executable, "-m", "sttd", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("part", ["the header", "the middle"])
def test_a_daemon_with_a_damaged_ledger_refuses_to_start_and_says_what_to_do(
    tmp_path: Path, part: str
) -> None:
    wav = tone(tmp_path / "talk.wav", 0.1)
    with daemon() as one:
        one.start()
        for n in range(10):
            one.drop(f"{n}.wav", wav)
        for n in range(10):
            one.transcript(str(n))
        assert one.stop() == 0
        ledger = one.state / "ledger" / "sttd.db"
        with ledger.open("r+b") as file:
            if part == "the middle":
                file.seek(4096)
                file.write(b"\xff" * (ledger.stat().st_size - 4096))
            else:
                file.write(b"this is no database at all")
        one.drop("waits.wav", wav)
        one.start(wait=False)
        assert one.process is not None
        assert one.process.wait(30) not in (0, 3)
        said = one.log_path.read_text().splitlines()[-4:]
        assert any(str(ledger) in line and "rebuild-ledger" in line for line in said), said
        assert (one.state / "inbox" / "waits.wav").exists()
        done = sttd("rebuild-ledger", "-c", str(one.config))
        assert done.returncode == 0, done.stderr
        one.start()
        assert one.transcript("waits")
        eventually(lambda: one.status()["queue"]["succeeded"] == 11, "the last one is recorded")
        assert one.stop() == 0


def test_without_one_of_its_walls_a_decoder_works_and_the_operator_can_see_it(
    tmp_path: Path,
) -> None:
    """Under another machine's name there is no filter of system calls for it."""
    other = ("setarch", "i686")
    if shutil.which("setarch") is None or sys.maxsize < 1 << 32:
        pytest.skip("setarch is not installed (apt: util-linux)")
    wav = tone(tmp_path / "talk.wav", 0.1)
    with daemon() as one:
        seen = sttd("check-sandbox", under=other)
        assert "seccomp: missing" in seen.stdout, seen.stdout + seen.stderr
        assert seen.returncode == 1
        one.under = other
        one.start()
        one.drop("a.wav", wav)
        assert one.transcript("a")
        assert one.stop() == 0
