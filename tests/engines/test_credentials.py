"""Secrets by name: the order of the places, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sttd.engines import AuthenticationError
from sttd.engines.credentials import read_credential


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.mkdir()
    return path


def keep(folder: Path, value: str = "from-the-folder\n", mode: int = 0o600) -> None:
    (folder / "speech-key").write_text(value)
    (folder / "speech-key").chmod(mode)


def test_systemds_folder_goes_first_then_the_environment_then_etc(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "speech-key").write_text("from-systemd")
    keep(folder)
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "STTD_CREDENTIAL_SPEECH_KEY": "from-the-environment",
    }

    assert read_credential("speech-key", environ, folder) == "from-systemd"
    (tmp_path / "speech-key").unlink()
    assert read_credential("speech-key", environ, folder) == "from-the-environment"
    assert read_credential("speech-key", {}, folder) == "from-the-folder"


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_file_others_can_read_or_write_is_refused(folder: Path, mode: int) -> None:
    keep(folder, mode=mode)

    with pytest.raises(AuthenticationError, match="chmod 0640") as caught:
        read_credential("speech-key", {}, folder)
    assert "from-the-folder" not in str(caught.value)


def test_a_missing_one_names_the_three_places(folder: Path) -> None:
    with pytest.raises(AuthenticationError) as caught:
        read_credential("speech-key", {}, folder)

    for place in ("LoadCredential=speech-key", "$STTD_CREDENTIAL_SPEECH_KEY", str(folder)):
        assert place in str(caught.value)


@pytest.mark.parametrize("name", ["", "../etc/shadow", "a/b", ".hidden", "a b", "x" * 200])
def test_a_name_that_is_none_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(AuthenticationError, match="no credential name"):
        read_credential(name, {}, folder)


@pytest.mark.parametrize("value", ["", "  \n", "two words", "line\nbreak", "umlaut\u00fc"])
def test_a_value_that_cannot_be_a_secret_is_refused(folder: Path, value: str) -> None:
    keep(folder, value)

    with pytest.raises(AuthenticationError):
        read_credential("speech-key", {}, folder)
