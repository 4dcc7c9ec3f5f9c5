"""`sttd run-once` ends by itself, and says why, where waiting would mend nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import PYTHON, ROOT
from tests.support.wav import tone

EX_FAILED = 1


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
