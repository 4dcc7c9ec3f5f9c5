"""CURVE for sockets on tcp: who holds a known key may come in, nobody else.

Takes keys as arguments; where they are kept is the configuration's business.
"""

from __future__ import annotations

from typing import Any

import msgspec
import zmq

DOMAIN = "sttd"  # of ZAP (RFC 27), which asks for a verdict on every key


class Curve(msgspec.Struct, frozen=True):
    """The daemon's own key pair and the public keys it lets in; Z85, 40 bytes each."""

    public: bytes
    secret: bytes
    clients: frozenset[bytes]

    def encrypt(self, socket: zmq.Socket[bytes]) -> None:
        """Make a server of this socket, before it is bound."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN.encode())

    def admit(self, context: zmq.Context[zmq.Socket[bytes]]) -> Any:
        """Start to answer for keys within the running event loop; `stop()` what is returned."""
        from zmq.auth.asyncio import AsyncioAuthenticator  # noqa: PLC0415 - costs memory, rare

        authenticator = AsyncioAuthenticator(context)
        authenticator.start()
        authenticator.configure_curve_callback(DOMAIN, self)
        return authenticator

    def callback(self, _domain: str, key: bytes) -> bool:
        """What pyzmq's authenticator asks about a client's key."""
        return key in self.clients
