"""`sttd check-engine` says in a line what an engine has to say of its options."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sttd.cli import main


def checked(monkeypatch: pytest.MonkeyPatch, **env: str) -> tuple[int, str]:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(main, ["check-engine"])
    return done.exit_code, done.output


def test_an_engine_that_can_be_built_transcribes_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = checked(monkeypatch, STTD_ENGINE__NAME="drill")
    assert code == 0
    assert "two seconds of silence transcribed" in said


@pytest.mark.parametrize(
    ("engine", "key", "value", "why"),
    [
        ("drill", "OPTIONS__RIASE", "bug", "did you mean"),
        ("drill", "OPTIONS__UNREADABLE_AT_INIT", "true", "the model cannot be read"),
        ("pocketsphinx", "POCKETSPHINX__MODEL", "/nonexistent", "/nonexistent is no folder"),
        ("tests.support.engines:Broken", "OPTIONS__A", "1", "RuntimeError: the model is missing"),
    ],
)
def test_what_an_engine_does_not_like_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, engine: str, key: str, value: str, why: str
) -> None:
    if engine == "pocketsphinx":
        pytest.importorskip("pocketsphinx")
    code, said = checked(monkeypatch, **{"STTD_ENGINE__NAME": engine, f"STTD_ENGINE__{key}": value})
    assert code == 1
    (line,) = said.splitlines()
    assert why in line
