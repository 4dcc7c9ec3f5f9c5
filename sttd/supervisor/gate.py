"""A listening tcp socket that can be shut: it takes no new connection, and keeps those it has.

There is no name to take away as from a unix socket, and a ZeroMQ socket that is unbound drops
whoever came in that way. So the socket is made here and handed to ZeroMQ, and shut by a filter
(socket(7), SO_ATTACH_FILTER) under which the kernel drops every packet that would open a
connection: who tries keeps trying, and gets in later. Knows nothing of ZeroMQ.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

from sttd.supervisor.listener import BACKLOG, ControlError

_ATTACH_FILTER, _DETACH_FILTER = 26, 27  # asm-generic/socket.h
_NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)  # struct sock_filter: return 0 bytes of the packet


class TcpListener:
    """One listening socket; `fd` is handed to whoever accepts and then belongs to them."""

    def __init__(self, address: str) -> None:
        """Listen at "host:port", "[::1]:port" or "*:port". Raises ControlError."""
        self.warning = ""
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                None if host == "*" else host,
                port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE,
            )[0]
            self._socket = socket.socket(family, kind, protocol)
            self._listen(place)
        except OSError as error:
            what = error.strerror or error
            raise ControlError(f"cannot listen at tcp://{address}: {what}") from error
        self.fd = self._socket.dup().detach()

    def _listen(self, place: tuple[object, ...]) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(place)
            self._socket.listen(BACKLOG)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def shut(self) -> None:
        """Nobody can connect any more."""
        code = ctypes.create_string_buffer(_NOTHING, len(_NOTHING))
        program = struct.pack("@HP", 1, ctypes.addressof(code))
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)

    def reopen(self) -> None:
        """Others can connect again."""
        with contextlib.suppress(OSError):  # it was not shut
            self._socket.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)

    def unlink(self) -> None:
        """Give the port back, once ZeroMQ has closed its end."""
        self._socket.close()
