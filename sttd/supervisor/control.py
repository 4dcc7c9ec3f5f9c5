"""The control socket: requests in, replies out, events to whoever listens. ZeroMQ and nothing else.

Knows no policy: what a request means is the handler's business, who may send it `Access`'s, and
where an upload's bytes go `Uploads`'. A request never raises beyond this module, and what is no
request at all is dropped and counted.

The socket is read straight from the event loop by its descriptor, because a message must be
looked at part by part: a peer may send a million parts in one message. That descriptor is
edge-triggered (zmq_getsockopt(3), ZMQ_FD): whoever has sent or received must look again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import zmq

from sttd.supervisor.access import Access, Peer, parse_peer
from sttd.supervisor.curve import Curve
from sttd.supervisor.door import Door
from sttd.supervisor.gate import TcpListener
from sttd.supervisor.listener import ControlError, UnixListener
from sttd.wire import replies, requests
from sttd.wire.codes import Code
from sttd.wire.replies import Error, Reply
from sttd.wire.requests import Request, RequestError

__all__ = ["Answer", "Control", "ControlError", "UploadSink"]

MAX_IN_FLIGHT = 64  # requests being answered; beyond that the socket is not read
MAX_WAITING = 256  # requests that only wait; they hold nothing up, so they are counted apart
MAX_MESSAGE = 1 << 20  # bytes in one frame
HANDSHAKE_MS = 2000
HIGH_WATER = 256  # messages for one peer; a subscriber further behind misses events
LINGER_MS = 200  # what the last replies and `daemon.stopped` get to leave
BATCH = 32  # messages read before the rest of the loop has its turn

Answer = Reply | tuple[Reply, bytes]  # with the binary frame of `Fetched`
Handler = Callable[[Request, Peer], Awaitable[Answer]]
OnError = Callable[[str, BaseException], None]


class UploadSink(Protocol):
    """Where the bytes of submissions go; see `uploads.Uploads`."""

    async def open(self, request: requests.SubmitOpen, peer: Peer) -> Reply:
        """Make room for a recording."""
        ...

    async def write(self, request: requests.SubmitChunk, data: memoryview, peer: Peer) -> Reply:
        """Take one chunk."""
        ...

    async def commit(self, request: requests.SubmitCommit, peer: Peer) -> Reply:
        """Make a job of it."""
        ...

    async def abort(self, request: requests.SubmitAbort, peer: Peer) -> Reply:
        """Forget it."""
        ...


class Control:
    """The daemon's two sockets: ROUTER for requests, PUB for events."""

    def __init__(
        self,
        endpoint: str,
        events_endpoint: str,
        *,
        handler: Handler,
        uploads: UploadSink,
        access: Access,
        group: str = "",
        max_message: int = MAX_MESSAGE,
        curve: Curve | None = None,
        on_error: OnError = lambda _verb, _error: None,
        on_trouble: Callable[[str], object] = lambda _line: None,
    ) -> None:
        """Nothing happens before `start`.

        `on_error` hears of every `internal` answer, `on_trouble` when clients are shut out.
        """
        self._endpoint = endpoint
        self._events_endpoint = events_endpoint
        self._handler = handler
        self._uploads = uploads
        self._access = access
        self._group = group
        self._max_message = max_message
        self._curve = curve
        self._on_error = on_error
        self._on_trouble = on_trouble
        self._context = zmq.Context()
        self._listeners: list[UnixListener | TcpListener] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._waiting = 0
        self._authenticator: Any = None
        self.dropped = 0  # messages that were no requests

    @property
    def warnings(self) -> tuple[str, ...]:
        """Lines for the operator: who cannot connect though the settings say so."""
        return tuple(listener.warning for listener in self._listeners if listener.warning)

    def start(self) -> None:
        """Bind both sockets and begin to answer; raises ControlError. Needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._closed = False
        try:
            if self._curve is not None:
                self._authenticator = self._curve.admit(self._context)
            self._router = self._bind(zmq.ROUTER, self._endpoint)
            self._pub = self._bind(zmq.PUB, self._events_endpoint)
        except BaseException:
            self._destroy()
            raise
        self._door = Door((self._router, self._pub), self._listeners, self._crowded)
        self._loop.add_reader(self._router.fileno(), self._read)
        self._loop.call_soon(self._read)

    def publish(self, topic: str, record: Mapping[str, object]) -> None:
        """Give an event to whoever subscribed to its name; never blocks, never fails."""
        if not self._closed:
            # libzmq looks for new subscriptions when it sends, but at most once a millisecond;
            # asking for its state has it look now
            self._pub.getsockopt(zmq.EVENTS)
            self._pub.send_multipart((topic.encode(), msgspec.json.encode(record)))

    async def close(self) -> None:
        """Answer no more, take the sockets away."""
        self._closed = True
        self._loop.remove_reader(self._router.fileno())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._door.stop()
        self._destroy()

    def _crowded(self, line: str) -> None:
        """From the door's thread: too many clients, or no longer."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._on_trouble, line)

    def _destroy(self) -> None:
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.destroy(linger=LINGER_MS)
        for listener in self._listeners:
            listener.unlink()

    # -- sockets ------------------------------------------------------------------------------
    def _bind(self, kind: int, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_message)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        socket.setsockopt(zmq.LINGER, 0)
        transport, _, address = endpoint.partition("://")
        listener: UnixListener | TcpListener
        if transport == "ipc":
            listener = UnixListener(address, group=self._group)
        elif transport == "tcp":
            if self._curve is None:
                raise ControlError(
                    f"{endpoint}: tcp needs control.curve_server_key and control.curve_clients"
                )
            self._curve.encrypt(socket)
            listener = TcpListener(address)
        else:
            raise ControlError(f"{endpoint}: an endpoint is ipc:///path or tcp://127.0.0.1:port")
        self._listeners.append(listener)
        socket.setsockopt(zmq.USE_FD, listener.fd)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise ControlError(f"cannot listen at {endpoint}: {error.strerror}") from error
        return socket

    # -- requests -----------------------------------------------------------------------------
    def _read(self) -> None:
        """Take what has come; called by the loop, after every send, and when a place is free."""
        for _ in range(BATCH):
            if self._closed or self._in_flight >= MAX_IN_FLIGHT:
                return
            try:
                first = self._router.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._take(self._parts(first))
        self._loop.call_soon(self._read)

    def _parts(self, first: zmq.Frame) -> list[zmq.Frame]:
        """All parts of a message, but at most five of them: what is longer is no request."""
        parts = [first]
        part = first
        while part.more:
            part = self._router.recv(zmq.NOBLOCK, copy=False)
            if len(parts) < 5:
                parts.append(part)
        return parts

    def _take(self, parts: list[zmq.Frame]) -> None:
        if not 3 <= len(parts) <= 4 or len(parts[1]) > requests.MAX_CORRELATION:
            self.dropped += 1
            return
        back = [parts[0].bytes, parts[1].bytes]
        try:
            request = requests.decode(parts[2].bytes)
            data = _payload(request, parts)
            peer = _peer(parts[2])
            self._check(request, peer)
        except RequestError as error:
            self._send(back, error.reply)
            return
        waits = isinstance(request, requests.Held)
        self._count(waits, 1)
        task = self._loop.create_task(self._answer(back, request, data, peer))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._finished(done, waits))

    def _check(self, request: Request, peer: Peer) -> None:
        verb = requests.verb(request)
        if not self._access.allowed(peer, verb):
            raise RequestError(
                Error.of(
                    Code.NOT_ALLOWED,
                    f"{verb} is for root and for the user sttd runs as",
                    "try it with sudo",
                )
            )
        waits = isinstance(request, requests.Held)
        if waits and self._waiting >= MAX_WAITING:
            raise RequestError(Error.of(Code.BUSY, f"{MAX_WAITING} clients are waiting already"))

    def _count(self, waits: bool, by: int) -> None:
        if waits:
            self._waiting += by
        else:
            self._in_flight += by

    def _finished(self, task: asyncio.Task[None], waits: bool) -> None:
        self._tasks.discard(task)
        self._count(waits, -1)
        if not self._closed:
            self._loop.call_soon(self._read)

    async def _answer(
        self, back: list[bytes], request: Request, data: memoryview, peer: Peer
    ) -> None:
        try:
            answer = await self._dispatch(request, data, peer)
        except RequestError as error:
            answer = error.reply
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on
            verb = requests.verb(request)
            self._on_error(verb, error)
            answer = Error.of(Code.INTERNAL, f"{verb}: {type(error).__name__}: {error}")
        reply, binary = answer if isinstance(answer, tuple) else (answer, None)
        self._send(back, reply, binary)

    async def _dispatch(self, request: Request, data: memoryview, peer: Peer) -> Answer:
        match request:
            case requests.SubmitOpen():
                return await self._uploads.open(request, peer)
            case requests.SubmitChunk():
                return await self._uploads.write(request, data, peer)
            case requests.SubmitCommit():
                return await self._uploads.commit(request, peer)
            case requests.SubmitAbort():
                return await self._uploads.abort(request, peer)
            case _:
                return await self._handler(request, peer)

    def _send(self, back: list[bytes], reply: Reply, data: bytes | None = None) -> None:
        """Send an answer; a peer that has gone, or reads nothing, misses it."""
        if self._closed:
            return
        parts = [*back, replies.encode(reply)] + ([data] if data is not None else [])
        with contextlib.suppress(zmq.ZMQError):
            self._router.send_multipart(parts, zmq.NOBLOCK)


def _payload(request: Request, parts: list[zmq.Frame]) -> memoryview:
    """The binary frame, which SubmitChunk must have and nobody else may."""
    is_chunk = isinstance(request, requests.SubmitChunk)
    if is_chunk != (len(parts) == 4):
        wrong = "needs a binary frame" if is_chunk else "takes no binary frame"
        raise RequestError(Error.of(Code.BAD_REQUEST, f"{requests.verb(request)} {wrong}"))
    data = memoryview(parts[3].buffer if is_chunk else b"")
    if len(data) > requests.CHUNK or (is_chunk and not data):
        raise RequestError(
            Error.of(Code.BAD_REQUEST, f"a chunk is 1 to {requests.CHUNK} bytes, not {len(data)}")
        )
    return data


def _peer(part: zmq.Frame) -> Peer:
    """Who sent this part, by the metadata that libzmq puts on it."""
    key: str | None = None
    with contextlib.suppress(zmq.ZMQError):
        key = str(part.get("User-Id")) or None
    try:
        return parse_peer(str(part.get("Peer-Address")), key)
    except zmq.ZMQError:
        return Peer(None, key=key)
