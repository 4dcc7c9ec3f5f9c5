"""A listener of the pool that keeps what it hears."""

from __future__ import annotations

import asyncio
from typing import Any

from sttd.wire import messages as say


class Recorder:
    """Writes down what the pool reports, and lets tests wait for it."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self._news = asyncio.Condition()

    def _add(self, *what: Any) -> None:
        self.heard.append(what)
        self._task = asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    def template_ready(self, epoch: int, news: say.TemplateReady) -> None:
        self._add("template_ready", epoch, news)

    def template_exited(self, epoch: int, message: str, *, broken: bool, usable: bool) -> None:
        self._add("template_exited", epoch, message, broken, usable)

    def worker_forked(self, worker: str, pid: int) -> None:
        self._add("forked", worker, pid)

    def worker_said(self, worker: str, news: say.FromWorker) -> None:
        self._add("said", worker, news)

    def worker_starved(self, worker: str) -> None:
        self._add("starved", worker)

    def worker_exited(
        self, worker: str, code: int | None, number: int | None, message: str
    ) -> None:
        self._add("exited", worker, code, number, message)

    def output(self, line: str, worker: str | None = None) -> None:
        self._add("output", line, worker)

    async def until(
        self, *start: Any, kind: type | None = None, **fields: object
    ) -> tuple[Any, ...]:
        """The first report that begins like this (whose last item is a `kind` with `fields`)."""

        def found() -> tuple[Any, ...] | None:
            for item in self.heard:
                if item[: len(start)] != start or (kind and not isinstance(item[-1], kind)):
                    continue
                if all(getattr(item[-1], name) == wanted for name, wanted in fields.items()):
                    return item
            return None

        async with self._news:
            await asyncio.wait_for(self._news.wait_for(lambda: found() is not None), 30)
        item = found()
        assert item is not None
        return item
