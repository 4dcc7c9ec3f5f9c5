"""The Prometheus endpoint as a whole: what is counted, what is looked up, where it is served.

A scrape copies what the daemon knows, asks the ledger one question of constant time, and turns
both into text in a thread. However many scrapers there are, it does so once a second at most, and
a ledger that does not answer is asked only once. Imported only where `[metrics] listen` is set.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Self

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sttd.log import Log
from sttd.supervisor.exposition import Exposition, listen
from sttd.supervisor.figures import Figures, families, look, look_at_disks
from sttd.supervisor.ledger import Ledger, LedgerError
from sttd.supervisor.loop import Loop
from sttd.supervisor.meters import Meters
from sttd.supervisor.records import Counts

FRESH_S = 1.0  # a page is served again within this time
LEDGER_S = 2.0  # a scrape waits so long for the ledger


class Metrics:
    """Counts from its making on; serves from `serve` on. `dropped` counts notifications."""

    def __init__(self, log: Log, ledger: Ledger, dropped: Callable[[], int]) -> None:
        # without it, a second series for each counter, which nobody asks for
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self._ledger = ledger
        self._dropped = dropped
        self._registry = CollectorRegistry()
        self._state = _State()
        self._registry.register(self._state)
        ProcessCollector(registry=self._registry)
        self._meters = Meters(self._registry)
        self._exposition = Exposition(self._page)
        self._busy = asyncio.Lock()
        self._asked: asyncio.Task[Counts] | None = None
        self._at = float("-inf")
        self._loop: Loop | None = None
        log.listen(self._meters.heard)

    async def serve(self, loop: Loop, where: str) -> None:
        """Answer scrapes at `where`, "host:port"; raises OSError when that cannot be."""
        self._loop = loop
        loop.on_bury = self._meters.buried
        await listen(self._exposition, where)

    async def __aenter__(self) -> Self:
        """It counts already."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Serve no more."""
        await self._exposition.close()
        if self._asked is not None:
            self._asked.cancel()

    async def _page(self, accept: str) -> tuple[str, bytes]:
        assert self._loop is not None
        async with self._busy:
            now = asyncio.get_running_loop().time()
            if now - self._at >= FRESH_S:
                counts, took = await self._counts()
                figures = look(self._loop, now, self._dropped())
                figures = msgspec.structs.replace(figures, counts=counts, answer_s=took)
                self._state.figures = await asyncio.to_thread(look_at_disks, figures)
                self._at = now
            return await asyncio.to_thread(self._text, accept)

    async def _counts(self) -> tuple[Counts | None, float | None]:
        """Jobs by state and how long the answer took; None when it is not there in time."""
        began = time.monotonic()
        if self._asked is None:
            self._asked = asyncio.create_task(self._ledger.counts())
        await asyncio.wait({self._asked}, timeout=LEDGER_S)
        if not self._asked.done():
            return None, None
        task, self._asked = self._asked, None
        try:
            return task.result(), time.monotonic() - began
        except LedgerError:
            return None, None

    def _text(self, accept: str) -> tuple[str, bytes]:
        """The page in the format that the scraper prefers."""
        try:
            encode, media = choose_encoder(accept)
        except (ValueError, TypeError):  # the header names a version that is none
            encode, media = choose_encoder("")
        return media, encode(self._registry)


class _State(Collector):
    """What was looked up for this scrape, among the collectors of the registry."""

    def __init__(self) -> None:
        self.figures: Figures | None = None

    def collect(self) -> Iterator[Metric]:
        """All families of it."""
        if self.figures is not None:
            yield from families(self.figures)
