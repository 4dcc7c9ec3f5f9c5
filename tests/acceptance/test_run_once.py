"""`sttd run-once` ends by itself, and says why, where waiting would mend nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import PYTHON, ROOT
from tests.support.wav import tone

EX_FAILED, EX_CONFIG = 1, 2


def run_once(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-m", "sttd", "run-once", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "STTD_CONFIG": "", **env},
    )


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"STTD_ENGINE__OPTIONS__RAISE": "unauthorized"}, "unauthorized: this is a drill"),
        ({"STTD_ENGINE__OPTIONS__CRASH_AT_BEGIN": "true"}, "no worker starts"),
        ({"STTD_ENGINE__NAME": "tests.support.engines:Threaded"}, "start = 'spawn'"),
    ],
)
def test_what_no_waiting_mends_ends_the_command_with_its_reason(
    tmp_path: Path, env: dict[str, str], why: str
) -> None:
    wav = tone(tmp_path / "a.wav", 0.2)
    done = run_once(str(wav), **{"STTD_ENGINE__NAME": "drill", **env})
    assert done.returncode == EX_FAILED, done.stderr
    assert why in done.stderr.splitlines()[-1]
    assert str(wav) in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("more", [[], ["--in-process"]])
def test_what_is_no_recording_is_said_in_one_line(tmp_path: Path, more: list[str]) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("no audio")
    cases = [
        (text, EX_FAILED, "cannot be opened as audio"),
        (tmp_path, EX_CONFIG, "is a folder"),
        (tmp_path / "nothing.wav", EX_CONFIG, "no such file"),
    ]
    for path, code, why in cases:
        done = run_once(*more, str(path), STTD_ENGINE__NAME="drill")
        assert done.returncode == code
        *events, line = done.stderr.splitlines()
        assert why in line
        assert all(event.startswith("{") for event in events)  # what failed is logged, too


@pytest.mark.parametrize("more", [[], ["--in-process"]])
def test_a_name_that_stdout_cannot_encode_is_printed_escaped(
    tmp_path: Path, more: list[str]
) -> None:
    wav = tone(tmp_path / "ünï.wav", 0.2)
    env = {"STTD_ENGINE__NAME": "drill", "STTD_ENGINE__OPTIONS__TEXT": '"grüße"'}
    done = run_once(*more, str(wav), PYTHONIOENCODING="ascii", **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"gr\xfc\xdfe" in done.stdout


def test_help_onto_a_full_disk_is_told_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PYTHON, "-m", "sttd", "run-once", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == EX_FAILED
    assert done.stderr == "sttd: cannot write: No space left on device\n"
