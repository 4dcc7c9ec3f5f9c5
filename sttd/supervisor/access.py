"""Who asks, and who may ask what: one table from verb to role. Pure, no I/O.

The socket's mode decides who may connect at all; this decides what they may do then.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Peer(msgspec.Struct, frozen=True):
    """Who sent a request, from the kernel (SO_PEERCRED); the pid is for the log only.

    Over tcp there are no credentials: uid and gid are None and `key` is the peer's public key,
    which CURVE has proved.
    """

    uid: int | None
    gid: int | None = None
    pid: int | None = None
    key: str | None = None


Role = Literal["view", "submit", "admin"]

ROLES: dict[str, Role] = {
    "status": "view",
    "jobs": "view",
    "show": "view",
    "wait": "view",
    "wait_drained": "view",
    "workers": "view",
    "lives": "view",
    "why": "view",
    "memory": "view",
    "memory_history": "view",
    "config": "view",
    "events": "view",
    "version": "view",
    "fetch": "submit",
    "segments": "submit",
    "submit_open": "submit",
    "submit_chunk": "submit",
    "submit_commit": "submit",
    "submit_abort": "submit",
    "submit_path": "submit",
    "submit_url": "submit",
    "cancel": "submit",
    "retry": "submit",
    "drain": "admin",
    "resume": "admin",
    "recycle": "admin",
    "scale": "admin",
    "reload": "admin",
}


class Access:
    """Decides by uid: administrators are root and the user the daemon runs as."""

    def __init__(self, service_uid: int) -> None:
        self._administrators = frozenset({0, service_uid})

    def allowed(self, peer: Peer, verb: str) -> bool:
        """Whether this peer may use this verb; whoever could connect may view and submit."""
        if ROLES[verb] != "admin":
            return True
        return peer.uid in self._administrators or peer.key is not None


def parse_peer(address: str, key: str | None = None) -> Peer:
    """A peer from libzmq's `Peer-Address`: "localhost:UID:GID:PID" for ipc, an address for tcp.

    A key counts only where there are no credentials: over ipc a peer could claim any `User-Id`.
    """
    parts = address.split(":")
    if len(parts) == 4 and all(part.isdecimal() for part in parts[1:]):
        uid, gid, pid = map(int, parts[1:])
        return Peer(uid, gid, pid)
    return Peer(None, key=key)
