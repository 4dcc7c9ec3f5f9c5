"""Questions to workers about their memory, and the answers as they come. Decides nothing.

Only workers without a job are asked (by the caller): a busy one would answer after its job.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from sttd.wire.memory import HeapView
from sttd.wire.messages import Inspect, Inspected

PATIENCE_S = 3.0  # an idle worker answers within 0.1 s; one that got a job meanwhile, later


class Inspections:
    """`send(worker, question)` hands a question to a worker."""

    def __init__(self, send: Callable[[str, Inspect], None]) -> None:
        self._send = send
        self._serials = itertools.count(1)
        self._asked: dict[int, tuple[str, asyncio.Future[HeapView | None]]] = {}

    async def ask(self, worker: str, *, deep: bool) -> HeapView | None:
        """What the worker says; None when it is gone or has something else to do."""
        serial = next(self._serials)
        answer: asyncio.Future[HeapView | None] = asyncio.get_running_loop().create_future()
        self._asked[serial] = (worker, answer)
        self._send(worker, Inspect(serial, deep))
        try:
            return await asyncio.wait_for(answer, PATIENCE_S)
        except TimeoutError:
            return None
        finally:
            del self._asked[serial]

    def heard(self, news: Inspected) -> None:
        """An answer; one that comes too late is dropped."""
        _, answer = self._asked.get(news.serial, ("", None))
        if answer is not None and not answer.done():
            answer.set_result(news.heap)

    def gone(self, worker: str) -> None:
        """It will not answer any more."""
        for asked, answer in self._asked.values():
            if asked == worker and not answer.done():
                answer.set_result(None)
