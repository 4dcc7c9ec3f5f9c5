"""How much of what is printed is told, where there is no job whose end could be waited for."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from sttd.core.workers import Worker
from sttd.log import Log
from sttd.supervisor import chatter
from sttd.supervisor.chatter import MOST_LINES, Chatter
from tests.support.waiting import eventually_async


def told(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_process_without_jobs_is_told_of_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chatter, "WINDOW_S", 0.05)

    async def go() -> None:
        stream = io.StringIO()
        one = Chatter(Log(stream))
        for number in range(MOST_LINES + 7):
            one.printed(f"line {number}")
        assert len(told(stream)) == MOST_LINES
        await eventually_async(lambda: len(told(stream)) > MOST_LINES)
        assert told(stream)[-1]["dropped"] == 7
        one.printed("again")
        assert told(stream)[-1]["line"] == "again"

    asyncio.run(go())


def test_nothing_is_kept_of_workers_that_are_gone() -> None:
    async def go() -> None:
        stream = io.StringIO()
        log = Log(stream)
        one = Chatter(log)
        for number in range(50):
            worker = Worker(f"w-{number}", number, 0, 1, 0, 0.0)
            one.printed("hello", worker)
            log.event("worker.exited", worker=worker.id)
        assert not one._talks
        assert not [e for e in told(stream) if "dropped" in e]

    asyncio.run(go())
