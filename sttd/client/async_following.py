"""Live events for the asynchronous client."""

from __future__ import annotations

from typing import Self

import zmq
import zmq.asyncio

from sttd.client.async_connection import AsyncConnection
from sttd.client.following import HANDSHAKE_MS, event, subscribe
from sttd.wire.replies import Version
from sttd.wire.requests import Version as AskVersion
from sttd.wire.views import EventView


class AsyncFollowing:
    """An asynchronous iterator over events as they happen, and an asynchronous context manager.

    Subscribed when `async with` begins, or without it at the first event that is asked for.
    """

    def __init__(self, line: AsyncConnection, events: tuple[str, ...]) -> None:
        self._line = line
        self._events = events
        self._socket: zmq.asyncio.Socket | None = None

    async def __aenter__(self) -> Self:
        await self._subscribed()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EventView:
        socket = await self._subscribed()
        return event(await socket.recv_multipart())

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _subscribed(self) -> zmq.asyncio.Socket:
        """The socket; as in `Following`, two answers more tell that the subscription arrived."""
        if self._socket is not None:
            return self._socket
        endpoint = await self._ask()
        socket = self._line.context.socket(zmq.SUB)
        subscribe(socket, self._events, self._line.curve)
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        socket.connect(endpoint)
        await monitor.poll(HANDSHAKE_MS)
        socket.disable_monitor()
        monitor.close()
        self._socket = socket
        await self._ask()
        await self._ask()
        return socket

    async def _ask(self) -> str:
        reply, _ = await self._line.call(AskVersion())
        assert isinstance(reply, Version)
        return reply.version.events_endpoint
