"""One client's line to the daemon: a request out, its reply back, whatever happens in between.

A daemon that restarts meanwhile gets the request again, so every request may be repeated; how long
a silent one is waited for is `talk`'s to say. Knows no verb's meaning.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import zmq

from sttd.client import talk
from sttd.client.errors import DaemonUnavailable, Refused
from sttd.client.talk import RESTART_S, Exchange, Talk
from sttd.wire.codes import Code
from sttd.wire.replies import Reply
from sttd.wire.requests import Request

if TYPE_CHECKING:
    from sttd.client.flows import Ask, Do, Flow, Pause

DEFAULT_ENDPOINT = "ipc:///run/sttd/control.sock"
RECONNECT_MS = 50
MAX_REPLY = 16 << 20  # bytes; a thousand jobs, or a long timeline
START_HINT = (
    "start it with `systemctl start sttd`, or `sttd -c FILE` in the foreground; "
    "STTD_SOCKET names one that listens elsewhere"
)

T = TypeVar("T")


class Curve(msgspec.Struct, frozen=True):
    """The keys a client needs over tcp; Z85, 40 characters each, as text or as bytes."""

    server: bytes | str  # the daemon's public key
    public: bytes | str
    secret: bytes | str

    def encrypt(self, line: zmq.Socket[Any]) -> None:
        """Make a client of this socket, before it connects."""
        for option, key in (
            (zmq.CURVE_SERVERKEY, self.server),
            (zmq.CURVE_PUBLICKEY, self.public),
            (zmq.CURVE_SECRETKEY, self.secret),
        ):
            line.setsockopt(option, key.encode() if isinstance(key, str) else key)


def found(endpoint: str | None) -> str:
    """The endpoint that is meant; a bare path stands for ipc."""
    where = endpoint or os.environ.get("STTD_SOCKET") or DEFAULT_ENDPOINT
    return f"ipc://{where}" if where.startswith("/") else where


class Connection:
    """Connects at the first request; not for use by two threads at once."""

    def __init__(
        self,
        endpoint: str,
        *,
        curve: Curve | None = None,
        patience_s: float | None = None,
        restart_s: float = RESTART_S,
    ) -> None:
        self.endpoint = endpoint
        self.curve = curve
        self._talk = Talk(endpoint, patience_s, restart_s)
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._line: zmq.Socket[bytes] | None = None

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
        body, binary = self._exchange(line, self._talk.begin(request, data, time.monotonic()))
        return talk.read(body), binary

    def run(self, flow: Flow[T]) -> T:
        """Carry out a flow that gives nothing on the way; what it returns."""
        stream = self.stream(flow)
        while True:
            try:
                next(stream)
            except StopIteration as end:
                result: T = end.value
                return result

    def stream(self, flow: Flow[T]) -> Generator[Any, None, T]:
        """Carry out a flow; what it gives, as it comes."""
        from sttd.client.flows import Give  # noqa: PLC0415 - plain requests do without

        with contextlib.closing(flow):
            try:
                step = next(flow)
                while True:
                    try:
                        answer = (yield step.item) if isinstance(step, Give) else self._do(step)
                    except Exception as error:  # noqa: BLE001 - the flow decides what it means
                        step = flow.throw(error)
                    else:
                        step = flow.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result

    def _do(self, step: Ask | Pause | Do) -> Any:
        from sttd.client import flows  # noqa: PLC0415 - as above

        match step:
            case flows.Ask(request, data):
                return self.call(request, data)
            case flows.Pause(seconds):
                return time.sleep(seconds)
            case flows.Do(work):
                return work()

    def _exchange(self, line: zmq.Socket[bytes], exchange: Exchange) -> tuple[bytes, bytes]:
        _send(line, exchange.parts)
        while (pause_s := self._talk.pause_s(exchange, time.monotonic())) > 0:
            for ready, _ in self._poller.poll(max(1, int(pause_s * 1000))):
                if ready is self._monitor:
                    self._monitor.recv_multipart()  # the connection is gone, and what was in it
                    self._talk.lost()
                    _send(line, exchange.parts)
                    continue
                got = line.recv_multipart()
                self._talk.heard(time.monotonic())
                if got[0] == exchange.correlation and len(got) > 1:
                    return got[1], got[2] if len(got) > 2 else b""
            if ping := self._talk.ping(exchange, time.monotonic()):
                _send(line, ping)
        self.hang_up()
        raise self._talk.silence()

    def _connect(self) -> zmq.Socket[bytes]:
        probe(self.endpoint)
        line = self.context.socket(zmq.DEALER)
        self._monitor = connect(line, self.endpoint, self.curve)
        self._poller = zmq.Poller()
        self._poller.register(line, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._line = line
        return line


S = TypeVar("S", bound="zmq.Socket[Any]")


def connect(line: S, endpoint: str, curve: Curve | None) -> S:
    """Prepare a DEALER and connect it; its monitor, which tells when the connection breaks.

    Raises DaemonUnavailable when the endpoint is none; both are closed then.
    """
    monitor: S | None = None
    try:
        line.setsockopt(zmq.LINGER, 0)
        line.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        line.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY)
        if curve is not None:
            curve.encrypt(line)
        monitor = line.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        line.connect(endpoint)
    except zmq.ZMQError as error:
        if monitor is not None:
            line.disable_monitor()
            monitor.close()
        line.close()
        raise DaemonUnavailable(
            f"{endpoint} is no endpoint: {error.strerror}",
            "an endpoint is ipc:///run/sttd/control.sock or tcp://127.0.0.1:9464",
        ) from error
    return monitor


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
