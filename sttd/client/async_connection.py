"""The line of the asynchronous client: many requests under way at once on one socket.

What `connection` is to a thread, this is to a running event loop; what both know is in `talk`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import zmq
import zmq.asyncio

from sttd.client import flows, talk
from sttd.client.connection import Curve, connect, probe
from sttd.client.flows import Flow
from sttd.client.talk import RESTART_S, Exchange, Talk
from sttd.wire.replies import Reply
from sttd.wire.requests import Request

T = TypeVar("T")
Answer = tuple[bytes, bytes]


class AsyncConnection:
    """Connects at the first request; for any number of tasks of one event loop."""

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
        self._context: zmq.asyncio.Context | None = None
        self._line: zmq.asyncio.Socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._open: dict[bytes, tuple[Exchange, asyncio.Future[Answer]]] = {}

    async def close(self) -> None:
        """Hang up, and close whatever else was made in `context`."""
        await self.hang_up()
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    async def hang_up(self) -> None:
        """Drop the connection; the next request connects again."""
        line, self._line = self._line, None
        if line is None:
            return
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        line.disable_monitor()
        self._monitor.close()
        line.close()

    @property
    def context(self) -> zmq.asyncio.Context:
        """Where the line's sockets live; made when first needed."""
        if self._context is None:
            self._context = zmq.asyncio.Context()
        return self._context

    async def call(self, request: Request, data: bytes | None = None) -> tuple[Reply, bytes]:
        """The reply to a request, with its binary frame (empty where there is none).

        Raises Refused for a reply that is an Error, and DaemonUnavailable.
        """
        if self._line is None:
            self._connect()
        exchange = self._talk.begin(request, data, time.monotonic())
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[exchange.correlation] = (exchange, answer)
        try:
            body, binary = await self._exchange(exchange, answer)
        finally:
            del self._open[exchange.correlation]
        return talk.read(body), binary

    async def _exchange(self, exchange: Exchange, answer: asyncio.Future[Answer]) -> Answer:
        await self._send(exchange.parts)
        while (pause_s := self._talk.pause_s(exchange, time.monotonic())) > 0:
            await asyncio.wait([answer], timeout=pause_s)
            if answer.done():
                return answer.result()
            if ping := self._talk.ping(exchange, time.monotonic()):
                await self._send(ping)
        if len(self._open) == 1:  # nobody else waits on this line
            await self.hang_up()
        raise self._talk.silence()

    async def run(self, flow: Flow[T]) -> T:
        """Carry out a flow that gives nothing on the way; what it returns."""
        with contextlib.closing(flow):
            try:
                step = next(flow)
                while True:
                    try:
                        answer = await self._do(step)
                    except Exception as error:  # noqa: BLE001 - the flow decides what it means
                        step = flow.throw(error)
                    else:
                        step = flow.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result

    async def stream(self, flow: Flow[Any]) -> AsyncGenerator[Any, None]:
        """Carry out a flow; what it gives, as it comes."""
        with contextlib.closing(flow):
            try:
                step = next(flow)
                while True:
                    try:
                        given = isinstance(step, flows.Give)
                        answer = (yield step.item) if given else await self._do(step)  # type: ignore[union-attr]  # given
                    except Exception as error:  # noqa: BLE001 - the flow decides what it means
                        step = flow.throw(error)
                    else:
                        step = flow.send(answer)
            except StopIteration:
                return

    async def _do(self, step: flows.Step) -> Any:
        match step:
            case flows.Ask(request, data):
                return await self.call(request, data)
            case flows.Pause(seconds):
                return await asyncio.sleep(seconds)
            case flows.Do(work):
                return await asyncio.to_thread(work)
            case flows.Give():
                raise AssertionError("only a stream gives something")

    # -- the socket ---------------------------------------------------------------------------
    def _connect(self) -> None:
        probe(self.endpoint)
        line = self.context.socket(zmq.DEALER)
        self._monitor = connect(line, self.endpoint, self.curve)
        self._line = line
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._listen(line)),
            loop.create_task(self._watch(self._monitor)),
        ]

    async def _listen(self, line: zmq.asyncio.Socket) -> None:
        """Hand each answer to the one who waits for it."""
        while True:
            got = await line.recv_multipart()
            self._talk.heard(time.monotonic())
            _, answer = self._open.get(got[0], (None, None))
            if answer is not None and not answer.done() and len(got) > 1:
                answer.set_result((got[1], got[2] if len(got) > 2 else b""))

    async def _watch(self, monitor: zmq.asyncio.Socket) -> None:
        """Send everything again when the connection is gone, and what was in it."""
        while True:
            await monitor.recv_multipart()
            self._talk.lost()
            for exchange, _ in list(self._open.values()):
                await self._send(exchange.parts)

    async def _send(self, parts: list[bytes]) -> None:
        if self._line is not None:
            with contextlib.suppress(zmq.Again):  # nobody has read for long: patience ends soon
                await self._line.send_multipart(parts, zmq.NOBLOCK)
