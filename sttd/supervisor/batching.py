"""Work that is cheaper done together: what is asked while a batch is under way makes the next.

A quiet daemon waits for nobody; while more is coming a batch begins every `APART_S` at most, so
that fsyncs, commits and hand-overs between threads are shared. Knows nothing of the work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

APART_S = 0.1  # from one batch's beginning to the next one's: what a busy daemon's job waits
MOST = 64  # in one batch

A = TypeVar("A")
B = TypeVar("B")


class Batching(Generic[A, B]):
    """`do(items)` answers each item in order, by a value or by an error of its own.

    `more_coming()` is asked with each item: where it says no, nothing is waited for.
    """

    def __init__(
        self,
        do: Callable[[Sequence[A]], Awaitable[Sequence[B | Exception]]],
        more_coming: Callable[[], bool] = lambda: True,
    ) -> None:
        self._do = do
        self._more_coming = more_coming
        self._hurry = asyncio.Event()
        self._waiting: deque[tuple[A, asyncio.Future[B]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._next = 0.0  # loop time

    async def ask(self, item: A) -> B:
        """Its answer; raises its error, or what stopped the whole batch."""
        future: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._more_coming():
            self._hurry.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        try:
            while self._waiting:
                if (wait := self._next - now()) > 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._hurry.wait(), wait)
                self._hurry.clear()
                self._next = now() + APART_S
                batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                await self._serve(batch)
        finally:
            self._task = None

    async def _serve(self, batch: Sequence[tuple[A, asyncio.Future[B]]]) -> None:
        try:
            answers = await self._do([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - told to all who wait
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():  # cancelled: nobody waits any more
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
