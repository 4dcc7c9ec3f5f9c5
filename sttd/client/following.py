"""Live events from the daemon's PUB socket."""

from __future__ import annotations

from typing import Any, Self

import msgspec
import zmq

from sttd.client.connection import Connection, Curve
from sttd.wire.replies import Version
from sttd.wire.requests import Version as AskVersion
from sttd.wire.views import EventView

HANDSHAKE_MS = 1500  # to connect; what is not there by then may come later
MAX_EVENT = 1 << 20  # bytes
HIGH_WATER = 10_000  # events

_decoder: msgspec.json.Decoder[EventView] = msgspec.json.Decoder(EventView)


class Following:
    """An iterator over events as they happen, and a context manager; for one thread."""

    def __init__(self, line: Connection, events: tuple[str, ...]) -> None:
        """Subscribed when this returns: what happens from then on is heard."""
        endpoint = self._ask(line)
        self._socket = line.context.socket(zmq.SUB)
        subscribe(self._socket, events, line.curve)
        monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._socket.connect(endpoint)
        monitor.poll(HANDSHAKE_MS)
        self._socket.disable_monitor()
        monitor.close()
        # The subscription follows the handshake. Both sockets are served by one thread on either
        # side, so when two more answers have come, it has arrived as well.
        self._ask(line)
        self._ask(line)

    @staticmethod
    def _ask(line: Connection) -> str:
        reply, _ = line.call(AskVersion())
        assert isinstance(reply, Version)
        return reply.version.events_endpoint

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EventView:
        return event(self._socket.recv_multipart())

    def wait(self, seconds: float) -> bool:
        """Whether there is an event within so long."""
        return bool(self._socket.poll(int(seconds * 1000)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def subscribe(socket: zmq.Socket[Any], events: tuple[str, ...], curve: Curve | None) -> None:
    """Prepare a SUB socket for events of these names or families; none: for all."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_EVENT)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
    if curve is not None:
        curve.encrypt(socket)
    for name in events or ("",):
        socket.subscribe(name)


def event(parts: list[bytes]) -> EventView:
    """The event in a message of the PUB socket."""
    return _decoder.decode(parts[1])
