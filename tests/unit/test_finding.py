"""Which daemon sttctl talks to."""

from __future__ import annotations

from pathlib import Path

import pytest

from sttd.ctl import finding


@pytest.fixture(autouse=True)
def _etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "DEFAULT_CONFIG", str(tmp_path / "sttd.toml"))


def say(path: Path, endpoint: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'[control]\nendpoint = "{endpoint}"\n')


def test_overlays_say_where_the_daemon_is_as_they_do_for_the_daemon(tmp_path: Path) -> None:
    say(tmp_path / "sttd.toml", "ipc:///first")
    say(tmp_path / "conf.d" / "10-a.toml", "ipc:///second")
    say(tmp_path / "conf.d" / "20-b.toml", "ipc:///third")
    say(tmp_path / "conf.d" / ".30-hidden.toml", "ipc:///hidden")
    (tmp_path / "conf.d" / "40-else.toml").write_text("[pool]\nworkers = 3\n")
    assert finding.endpoint(None, {}) == "ipc:///third"


def test_overlays_are_not_for_a_file_that_was_named(tmp_path: Path) -> None:
    say(tmp_path / "conf.d" / "10-a.toml", "ipc:///overlay")
    say(tmp_path / "mine.toml", "ipc:///mine")
    assert finding.endpoint(None, {"STTD_CONFIG": str(tmp_path / "mine.toml")}) == "ipc:///mine"


def test_what_is_given_goes_over_the_environment_and_that_over_files(tmp_path: Path) -> None:
    say(tmp_path / "sttd.toml", "ipc:///file")
    assert finding.endpoint("/given", {"STTD_SOCKET": "/env"}) == "ipc:///given"
    assert finding.endpoint(None, {"STTD_SOCKET": "/env"}) == "ipc:///env"
    assert finding.endpoint(None, {}) == "ipc:///file"
