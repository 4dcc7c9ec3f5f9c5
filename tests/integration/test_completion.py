"""The completion scripts in the shells they are for; a shell that is not there is skipped."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
VERBS = {"recycle", "reload", "resume", "retry"}  # those that begin with "re"


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    """A home of its own, and sttctl on the path."""
    program = tmp_path / "bin" / "sttctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m sttd.ctl "$@"\n')
    program.chmod(0o755)
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "ZDOTDIR": str(tmp_path),
        "TERM": "xterm",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "STTD_SOCKET": f"{tmp_path}/nobody.sock",
    }


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(environ: Mapping[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_bash_completes_verbs_and_options(environ: Mapping[str, str]) -> None:
    def offered(*words: str) -> set[str]:
        typed = " ".join(words)
        script = (
            'source <(sttctl completion bash); complete -p sttctl >/dev/null || exit 9\n'
            f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _sttctl_completion sttctl\n"
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )  # fmt: skip
        return set(run(environ, shell("bash"), "-c", script).split())

    assert offered("sttctl", "re") == VERBS
    assert "--json" in offered("sttctl", "status", "--j")
    assert {"bash", "zsh", "fish"} <= offered("sttctl", "completion", "''")
    assert "deferred" in offered("sttctl", "jobs", "--state", "''")
    assert {"job", "job.failed"} <= offered("sttctl", "events", "--event", "job")


def test_fish_completes_verbs_with_what_they_do(environ: Mapping[str, str]) -> None:
    script = 'sttctl completion fish | source; complete -C "sttctl re"'
    told = run(environ, shell("fish"), "--no-config", "-c", script)
    offered = dict(line.split("\t") for line in told.splitlines())
    assert offered.keys() == VERBS
    assert "configuration" in offered["reload"]


def test_zsh_completes_verbs_at_a_prompt(environ: Mapping[str, str], tmp_path: Path) -> None:
    zsh = shell("zsh")
    (tmp_path / "functions").mkdir()
    script = run(environ, str(tmp_path / "bin" / "sttctl"), "completion", "zsh")
    (tmp_path / "functions" / "_sttctl").write_text(script)
    (tmp_path / ".zshrc").write_text(
        f"fpath=({tmp_path}/functions $fpath)\nautoload -Uz compinit\n"
        f"compinit -u -d {tmp_path}/dump\nPS1='READY> '\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [zsh, "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def shown(text: bytes) -> bool:
        with contextlib.suppress(BlockingIOError):
            seen.extend(os.read(ours, 1 << 16))
        return text in seen

    try:
        eventually(lambda: shown(b"READY> "), "a prompt")
        os.write(ours, b"sttctl re\t")
        for verb in VERBS:
            eventually(lambda verb=verb: shown(f"{verb} ".encode()), f"{verb} is offered")  # type: ignore[misc]
    finally:
        process.kill()  # the session of its own goes with its leader
        process.wait()
        os.close(ours)
