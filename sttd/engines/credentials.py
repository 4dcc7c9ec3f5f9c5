"""Secrets by name: where a credential is looked up, and what is refused.

The order is systemd's `LoadCredential=` folder, the environment, then /etc/sttd/credentials.
Nothing here logs, caches or passes on a value.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from sttd.engines import AuthenticationError

FALLBACK_FOLDER = Path("/etc/sttd/credentials")
LONGEST = 64 * 1024  # bytes; systemd's own limit for a credential is 1 MiB, a key has 84

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def read_credential(
    name: str, environ: Mapping[str, str] = os.environ, folder: Path = FALLBACK_FOLDER
) -> str:
    """The secret called `name`, without surrounding white space.

    Raises:
        AuthenticationError: there is none, it is empty, or others can read its file; the message
            names the places and the remedy, never a value.
    """
    if not _NAME.fullmatch(name):
        raise AuthenticationError(
            f"{name!r} is no credential name: letters, digits, '.', '_' and '-' only. "
            "Configure the name of the credential, never the secret itself"
        )
    handed_over = environ.get("CREDENTIALS_DIRECTORY")
    if handed_over and (path := Path(handed_over) / name).is_file():
        return _checked(name, _content(path), str(path))
    variable = "STTD_CREDENTIAL_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
    if variable in environ:
        return _checked(name, environ[variable], f"${variable}")
    path = folder / name
    if path.is_file():
        _refuse_if_others_can_read(path)
        return _checked(name, _content(path), str(path))
    raise AuthenticationError(
        f"credential {name!r} was not found: not in $CREDENTIALS_DIRECTORY (systemd "
        f"LoadCredential={name}:FILE), not in ${variable}, not at {path}"
    )


def _refuse_if_others_can_read(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise AuthenticationError(
            f"{path} can be read or written by others (mode {mode:04o}): chmod 0640 {path}"
        )


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise AuthenticationError(f"credential file {path} cannot be read: {error}") from None


def _checked(name: str, value: str, place: str) -> str:
    value = value.strip()
    if not value:
        raise AuthenticationError(f"credential {name!r} is empty in {place}")
    if any(not " " < character <= "~" for character in value):
        raise AuthenticationError(f"credential {name!r} in {place} has white space inside it")
    return value
