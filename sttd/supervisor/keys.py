"""Keys of control sockets on tcp: the daemon's own is a credential, the clients' are files.

Reads only; keys are made by `sttctl keygen`. No value of a secret key is ever in a message.
"""

from __future__ import annotations

from pathlib import Path

import zmq

from sttd.config.sections import Control
from sttd.credentials import CredentialError, read_credential
from sttd.supervisor.curve import Curve
from sttd.supervisor.listener import ControlError

SUFFIX = ".pub"
LENGTH = 40  # of a key as text (Z85, ZeroMQ RFC 32)


def load(control: Control) -> Curve | None:
    """The keys, where a socket is on tcp and keys are configured. Raises ControlError."""
    on_tcp = any(each.startswith("tcp:") for each in (control.endpoint, control.events))
    if not on_tcp or not control.curve_server_key or not control.curve_clients:
        return None  # whoever binds says what is missing
    try:
        secret = read_credential(control.curve_server_key).encode()
        public = zmq.curve_public(secret)
    except CredentialError as error:
        raise ControlError(f"control.curve_server_key: {error}") from None
    except (zmq.ZMQError, ValueError):
        raise ControlError(
            f"control.curve_server_key: the credential {control.curve_server_key} is no CURVE "
            "key; make one by `sttctl keygen`"
        ) from None
    return Curve(public, secret, _clients(Path(control.curve_clients)))


def _clients(folder: Path) -> frozenset[bytes]:
    """The keys in the folder's *.pub files; a file that holds none is an error, not a gap."""
    keys = set()
    try:
        for path in sorted(folder.glob("*" + SUFFIX)):
            key = path.read_bytes().strip()
            if len(key) != LENGTH:
                raise ControlError(f"{path}: no public key of {LENGTH} characters (Z85)")
            keys.add(key)
    except OSError as error:
        raise ControlError(f"control.curve_clients: {error}") from error
    if not keys:
        raise ControlError(
            f"control.curve_clients: there is no *{SUFFIX} in {folder}, so nobody could connect; "
            "make keys by `sttctl keygen`"
        )
    return frozenset(keys)
