"""Secrets by name: where a credential is looked up, and what is refused.

The order is systemd's `LoadCredential=` folder, the environment, /etc/sttd/credentials. Nothing
here logs, caches or passes on a value; no message has one in it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

ETC_FOLDER = Path("/etc/sttd/credentials")
FOLDER_VARIABLE = "CREDENTIALS_DIRECTORY"  # systemd.exec(5), LoadCredential=
PREFIX = "STTD_CREDENTIAL_"
LONGEST = 64 * 1024  # bytes; the Speech service's keys have 84, a CURVE key 40

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class CredentialError(Exception):
    """The credential cannot be had; the message names the place and the remedy, never a value."""


class MissingCredentialError(CredentialError):
    """No place has it; under systemd it may be there all the same."""


def read_credential(
    name: str, environ: Mapping[str, str] = os.environ, folder: Path = ETC_FOLDER
) -> str:
    """The secret called `name`, without the white space around it.

    The first place that has it decides: a bad one there is not passed over.

    Raises:
        MissingCredentialError: no place has it.
        CredentialError: it is empty, unreadable, or readable by others.
    """
    if not _NAME.fullmatch(name):
        raise CredentialError(
            "what is configured is no credential's name (letters, digits, '.', '_' and '-'): "
            "configure the name, never the secret itself"
        )
    places = ""
    if handed_over := environ.get(FOLDER_VARIABLE):
        value = _read(Path(handed_over) / name, others_may_read=True)
        if value is not None:
            return value
        places = f"not in {handed_over}, "
    variable = variable_of(name)
    if variable in environ:
        return _checked(environ[variable], f"${variable}")
    value = _read(folder / name, others_may_read=False)
    if value is not None:
        return value
    raise MissingCredentialError(
        f"credential {name} was not found: {places}not in ${variable}, not at {folder / name}; "
        f"put it there with mode 0640, or hand it over by systemd's LoadCredential={name}:FILE"
    )


def variable_of(name: str) -> str:
    """The variable for a credential: "speech-key" to STTD_CREDENTIAL_SPEECH_KEY."""
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", name.upper())


def without_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that must not have any secret of ours."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(PREFIX) and name != FOLDER_VARIABLE
    }


def _read(path: Path, *, others_may_read: bool) -> str | None:
    """The secret in that file; None where there is no such file."""
    try:
        # Not blocking: somebody may have put a pipe there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise CredentialError(f"credential file {path} cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CredentialError(f"credential file {path} is no plain file")
        if not others_may_read and status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
            mode = stat.S_IMODE(status.st_mode)
            raise CredentialError(
                f"credential file {path} is open to others (mode {mode:04o}): chmod 0640 {path}"
            )
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise CredentialError(f"credential file {path} is too large for a secret")
    try:
        return _checked(data.decode(), str(path))
    except UnicodeDecodeError:
        raise CredentialError(f"credential file {path} is not text") from None


def _checked(value: str, place: str) -> str:
    value = value.strip()
    if not value:
        raise CredentialError(f"the credential in {place} is empty")
    if "\0" in value:
        raise CredentialError(f"the credential in {place} has a NUL in it")
    return value
