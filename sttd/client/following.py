"""Live events from the daemon's PUB socket."""

from __future__ import annotations

from typing import Self

import msgspec
import zmq

from sttd.client.connection import Curve
from sttd.wire.views import EventView

HANDSHAKE_S = 1.5  # to be subscribed; a silent socket is read all the same
SETTLE_MS = 20  # for the subscription to reach the publisher behind the handshake
MAX_EVENT = 1 << 20  # bytes
HIGH_WATER = 10_000  # events

_decoder: msgspec.json.Decoder[EventView] = msgspec.json.Decoder(EventView)


class Following:
    """An iterator over events as they happen, and a context manager; for one thread."""

    def __init__(self, endpoint: str, events: tuple[str, ...], curve: Curve | None) -> None:
        """Connected and subscribed when this returns."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_EVENT)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        if curve is not None:
            curve.encrypt(self._socket)
        for name in events or ("",):
            self._socket.subscribe(name)
        monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._socket.connect(endpoint)
        monitor.poll(int(HANDSHAKE_S * 1000))
        self._socket.disable_monitor()
        monitor.close()
        self._socket.poll(SETTLE_MS)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EventView:
        _, record = self._socket.recv_multipart()
        return _decoder.decode(record)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._context.destroy(linger=0)
