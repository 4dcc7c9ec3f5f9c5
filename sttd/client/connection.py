"""One client's line to the daemon: a request out, its reply back, whatever happens in between.

A daemon that restarts meanwhile gets the request again, so every request may be repeated; one
that is silent for `patience_s` is given up. Slow and dead are told apart by asking for the
version beside the request under way. Knows no verb's meaning.
"""

from __future__ import annotations

import contextlib
import socket
import time
from types import TracebackType
from typing import Self

import msgspec
import zmq

from sttd.client.errors import DaemonUnavailable, Refused
from sttd.wire import replies, requests
from sttd.wire.codes import Code
from sttd.wire.replies import Error, Reply
from sttd.wire.requests import Request

PATIENCE_S = 2.0  # of silence, from a daemon that has answered before: it may be restarting
FIRST_PATIENCE_S = 1.3  # for the first answer: with an interpreter's start it stays within 2 s
PING_S = 0.4  # how often a request that takes its time is accompanied by a question
RECONNECT_MS = 50
MAX_REPLY = 16 << 20  # bytes; a thousand jobs, or a long timeline
PING = b"ping"
START_HINT = "start it with `systemctl start sttd`, or `sttd -c FILE` in the foreground"


class Curve(msgspec.Struct, frozen=True):
    """The keys a client needs over tcp; Z85, 40 bytes each."""

    server: bytes  # the daemon's public key
    public: bytes
    secret: bytes

    def encrypt(self, line: zmq.Socket[bytes]) -> None:
        """Make a client of this socket, before it connects."""
        line.setsockopt(zmq.CURVE_SERVERKEY, self.server)
        line.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        line.setsockopt(zmq.CURVE_SECRETKEY, self.secret)


class Connection:
    """Connects at the first request; not for use by two threads at once."""

    def __init__(
        self, endpoint: str, *, curve: Curve | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self.endpoint = endpoint
        self.curve = curve
        self._patience_s = patience_s
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._line: zmq.Socket[bytes] | None = None
        self._serial = 0
        self._met = False  # it has answered

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, and close whatever else was made in `context`."""
        self.hang_up()
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def hang_up(self) -> None:
        """Drop the connection; the next request connects again."""
        if self._line is not None:
            self._line.disable_monitor()
            self._monitor.close()
            self._line.close()
            self._line = None

    @property
    def context(self) -> zmq.Context[zmq.Socket[bytes]]:
        """Where the line's sockets live; made when first needed."""
        if self._context is None:
            self._context = zmq.Context()
        return self._context

    def call(self, request: Request, data: bytes | None = None) -> tuple[Reply, bytes]:
        """The reply to a request, with its binary frame (empty where there is none).

        Raises Refused for a reply that is an Error, and DaemonUnavailable.
        """
        line = self._line or self._connect()
        self._serial += 1
        correlation = self._serial.to_bytes(8, "big")
        parts = [correlation, requests.encode(request)] + ([data] if data is not None else [])
        found, binary = self._exchange(line, correlation, parts)
        try:
            reply = replies.decode(found)
        except msgspec.DecodeError as error:
            raise Refused(
                Code.VERSION_MISMATCH,
                f"the daemon's answer is not understood ({error})",
                "install the same version of sttd on both sides",
            ) from error
        if isinstance(reply, Error):
            raise Refused(reply.code, reply.message, reply.hint)
        return reply, binary

    def _exchange(
        self, line: zmq.Socket[bytes], correlation: bytes, parts: list[bytes]
    ) -> tuple[bytes, bytes]:
        _send(line, parts)
        patience_s = self._patience_s if self._met else min(self._patience_s, FIRST_PATIENCE_S)
        heard = time.monotonic()
        ping = heard + PING_S
        while (now := time.monotonic()) < heard + patience_s:
            next_look = min(ping, heard + patience_s)
            for ready, _ in self._poller.poll(max(1, int((next_look - now) * 1000))):
                if ready is self._monitor:
                    self._monitor.recv_multipart()  # the connection is gone, and what was in it
                    _send(line, parts)
                    continue
                heard, self._met = time.monotonic(), True
                patience_s = self._patience_s
                got = line.recv_multipart()
                if got[0] == correlation and len(got) > 1:
                    return got[1], got[2] if len(got) > 2 else b""
            if time.monotonic() >= ping:
                _send(line, [PING, requests.encode(requests.Version())])
                ping = time.monotonic() + PING_S
        self.hang_up()
        raise DaemonUnavailable(
            f"no answer from the daemon at {self.endpoint} for {patience_s:g} s",
            "see `systemctl status sttd`",
        )

    def _connect(self) -> zmq.Socket[bytes]:
        probe(self.endpoint)
        line = self.context.socket(zmq.DEALER)
        try:
            line.setsockopt(zmq.LINGER, 0)
            line.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
            line.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY)
            if self.curve is not None:
                self.curve.encrypt(line)
            self._monitor = line.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            line.connect(self.endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise DaemonUnavailable(
                f"{self.endpoint} is no endpoint: {error.strerror}",
                "an endpoint is ipc:///run/sttd/control.sock or tcp://127.0.0.1:9464",
            ) from error
        self._poller = zmq.Poller()
        self._poller.register(line, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._line = line
        return line


def _send(line: zmq.Socket[bytes], parts: list[bytes]) -> None:
    with contextlib.suppress(zmq.Again):  # nobody has read for long: patience ends soon
        line.send_multipart(parts, zmq.NOBLOCK)


def probe(endpoint: str) -> None:
    """Say at once what ZeroMQ would not say at all: nobody listens there, or you may not.

    Raises DaemonUnavailable or Refused(not_allowed). Endpoints other than ipc pass.
    """
    if not endpoint.startswith("ipc://"):
        return
    path = endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX) as there:
        there.setblocking(False)
        try:
            there.connect(path)
        except BlockingIOError:
            pass  # its backlog is full: someone is there
        except PermissionError as error:
            raise Refused(
                Code.NOT_ALLOWED,
                f"you may not use {path}",
                f"it is for the group that `ls -l {path}` shows; join it, or use sudo",
            ) from error
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise DaemonUnavailable(f"no daemon listens at {path}", START_HINT) from error
        except OSError as error:
            raise DaemonUnavailable(f"cannot connect to {path}: {error}") from error
