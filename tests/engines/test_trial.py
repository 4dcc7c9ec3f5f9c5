"""An engine is loaded on trial where it may do what it likes, and the answer is the loader's."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from sttd.cli import main
from sttd.engines.trial import refusal

EX_CONFIG = 2


def module(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module of this text, in this process and in those it starts."""
    path = folder / "sttd_trial_engine.py"
    path.write_text(textwrap.dedent(text))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return path.stem


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("os:Nope", "os has no Nope"),
        ("json:JSONDecoder", "is no engine: it has no"),
        ("drilll", "'drill'"),
        ("drill", ""),
    ],
)
def test_what_the_loader_says_is_the_answer(name: str, why: str) -> None:
    found = refusal(name)
    assert why in found
    assert bool(found) is bool(why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("import os\nos._exit(7)", "exit code 7"),
        ("import os\nos._exit(1)", "exit code 1"),
        ("raise SystemExit('bye')", "cannot be imported"),
        ("import threading\nthreading.Event().wait()", "takes more than 1 s"),
    ],
)
def test_an_import_may_do_what_it_likes(
    text: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_s = 1.0 if "wait" in text else 30.0
    assert why in refusal(f"{module(tmp_path, text, monkeypatch)}:Engine", limit_s)


def test_an_engine_that_prints_and_starts_threads_when_imported_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
        import threading
        print("hello")
        threading.Thread(target=threading.Event().wait).start()
        class Engine:
            name = "loud"
            def transcribe(self, audio, options): ...
    """
    assert refusal(f"{module(tmp_path, text, monkeypatch)}:Engine") == ""


@pytest.mark.parametrize("name", ["os:Nope", "json:JSONDecoder"])
def test_check_config_calls_no_engine_valid_that_the_daemon_could_not_load(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STTD_ENGINE__NAME", name)
    done = CliRunner().invoke(main, ["check-config"])
    assert done.exit_code == EX_CONFIG
    assert name.partition(":")[2] in done.output
    assert "valid" not in done.output
