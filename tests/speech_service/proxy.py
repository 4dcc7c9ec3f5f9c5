"""An HTTP proxy on loopback that lets CONNECT through, or refuses it, and remembers who asked."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator


class Proxy(socketserver.ThreadingTCPServer):
    """Listens on a free port. `asked` has the head of each request.

    With `to`, a port on loopback, everybody is connected with that one, whom they asked for or not.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *, allowed: bool = True, to: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.allowed = allowed
        self.to = to
        self.asked: list[str] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class _Handler(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.request.recv(4096)
            if not more:
                return
            head += more
        self.server.asked.append(head.decode())
        if not self.server.allowed:
            self.request.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        if self.server.to is not None:
            host, port = "127.0.0.1", str(self.server.to)
        with socket.create_connection((host, int(port))) as beyond:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pipe, args=(beyond, self.request), daemon=True)
            back.start()
            _pipe(self.request, beyond)
            back.join()


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def running_proxy(*, allowed: bool = True, to: int | None = None) -> Iterator[Proxy]:
    """A proxy for the length of a block."""
    with Proxy(allowed=allowed, to=to) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, name="proxy")
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
