"""Which daemon is meant: `--socket`, `$STTD_SOCKET`, the daemon's own settings, the default.

Reads one key of the configuration and judges none: that is the daemon's to do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from sttd.client import DEFAULT_ENDPOINT

if TYPE_CHECKING:
    from sttd.client import Curve

DEFAULT_CONFIG = "/etc/sttd/sttd.toml"


def endpoint(given: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The control endpoint; a bare path stands for ipc. Raises click.UsageError."""
    found = (
        given
        or environ.get("STTD_SOCKET")
        or environ.get("STTD_CONTROL__ENDPOINT")
        or _configured(environ.get("STTD_CONFIG") or "")
        or DEFAULT_ENDPOINT
    )
    if found.startswith("/"):
        return f"ipc://{found}"
    if not found.startswith(("ipc://", "tcp://")):
        raise click.UsageError(
            f"{found!r} is no endpoint; it looks like ipc:///run/sttd/control.sock "
            "or tcp://127.0.0.1:9464"
        )
    return found


def _configured(named: str) -> str | None:
    """What the daemon reads: the file that is named, else the default one and its overlays."""
    if named:
        return _endpoint_in(named)
    folder = f"{os.path.dirname(DEFAULT_CONFIG)}/conf.d"
    found = _endpoint_in(DEFAULT_CONFIG)
    try:
        overlays = sorted(
            name for name in os.listdir(folder) if name.endswith(".toml") and name[0] != "."
        )
    except OSError:
        return found
    for name in overlays:
        found = _endpoint_in(f"{folder}/{name}") or found
    return found


def _endpoint_in(path: str) -> str | None:
    """`control.endpoint` of a configuration file; None where there is none that can be read."""
    try:
        # pathlib would take as long to import as all of this
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError:
        return None
    import tomllib  # noqa: PLC0415 - only where there is a file

    with file:
        try:
            control = tomllib.load(file).get("control", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{path}: {error}; or name the daemon by --socket") from error
    value = control.get("endpoint") if isinstance(control, dict) else None
    return value if isinstance(value, str) else None


def keys(path: str | None, endpoint: str) -> Curve | None:
    """The CURVE keys for tcp, from a TOML file with `server`, `public` and `secret` (Z85).

    Raises click.UsageError when tcp has no keys, or others can read them.
    """
    if not endpoint.startswith("tcp://"):
        return None
    if path is None:
        raise click.UsageError(f"{endpoint}: tcp needs --keys FILE (or $STTD_KEYS)")
    import tomllib  # noqa: PLC0415 - for tcp alone

    from sttd.client import Curve  # noqa: PLC0415 - likewise

    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise click.UsageError(f"{path}: others can read it; chmod 600 {path}")
            table = tomllib.load(file)
        found = [str(table[name]).encode() for name in ("server", "public", "secret")]
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: {error}") from error
    except KeyError as error:
        raise click.UsageError(f"{path}: the key {error} is missing") from error
    if any(len(key) != 40 for key in found):
        raise click.UsageError(f"{path}: a key is 40 characters long (Z85)")
    return Curve(*found)
