"""Where secrets are looked up, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sttd.credentials import (
    LONGEST,
    CredentialError,
    MissingCredentialError,
    read_credential,
    without_credentials,
)

NAME = "speech-key"
VARIABLE = "STTD_CREDENTIAL_SPEECH_KEY"


def secret(folder: Path, value: bytes = b"hush\n", mode: int = 0o640) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / NAME
    path.write_bytes(value)
    path.chmod(mode)
    return path


def refusal(environ: dict[str, str], folder: Path) -> str:
    with pytest.raises(CredentialError) as caught:
        read_credential(NAME, environ, folder)
    assert "hush" not in str(caught.value)
    return str(caught.value)


def test_systemd_goes_before_the_environment_and_that_before_the_folder(tmp_path: Path) -> None:
    handed_over = secret(tmp_path / "systemd", b"from systemd\n", 0o444).parent
    etc = secret(tmp_path / "etc", b"from the folder").parent
    environ = {"CREDENTIALS_DIRECTORY": str(handed_over), VARIABLE: "from the environment"}
    assert read_credential(NAME, environ, etc) == "from systemd"
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    assert read_credential(NAME, environ, etc) == "from the environment"
    del environ[VARIABLE]
    assert read_credential(NAME, environ, etc) == "from the folder"
    assert read_credential(NAME, {}, etc) == "from the folder"


def test_a_credential_that_is_nowhere_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MissingCredentialError) as caught:
        read_credential(NAME, {"CREDENTIALS_DIRECTORY": "/run/c"}, tmp_path)
    for place in ("/run/c", f"${VARIABLE}", str(tmp_path / NAME), "LoadCredential=speech-key:"):
        assert place in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path, mode=mode)
    assert f"(mode {mode:04o}): chmod 0640 {path}" in refusal({}, tmp_path)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_file_for_owner_and_group_is_taken(tmp_path: Path, mode: int) -> None:
    secret(tmp_path, mode=mode)
    assert read_credential(NAME, {}, tmp_path) == "hush"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hush\0", "NUL"),
        (b"hush\xff", "is not text"),
        (b"h" * (LONGEST + 1), "too large"),
    ],
)
def test_what_can_be_no_secret_is_refused(tmp_path: Path, value: bytes, said: str) -> None:
    secret(tmp_path, value)
    assert said in refusal({}, tmp_path)


def test_the_first_place_decides_even_when_it_is_bad(tmp_path: Path) -> None:
    secret(tmp_path)
    assert f"${VARIABLE} is empty" in refusal({VARIABLE: ""}, tmp_path)


def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME, 0o600)
    assert "no plain file" in refusal({}, tmp_path)


@pytest.mark.parametrize("name", ["", "../etc/shadow", "a/b", ".hidden", "a b", "x" * 129, "a\n"])
def test_only_names_are_names_and_others_are_not_repeated(tmp_path: Path, name: str) -> None:
    with pytest.raises(CredentialError, match="never the secret itself") as caught:
        read_credential(name, {}, tmp_path)
    assert not name or name not in str(caught.value)


def test_a_process_without_need_gets_no_secret() -> None:
    environ = {VARIABLE: "hush", "CREDENTIALS_DIRECTORY": "/run/c", "PYTHONPATH": "/x"}
    assert without_credentials(environ) == {"PYTHONPATH": "/x"}
