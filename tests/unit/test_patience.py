"""How long `sttd run-once` waits for a service that is away, and what it goes on waiting for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from sttd.supervisor.patience import AWAY_MOST_S, Patience

ROOT = Path(__file__).resolve().parents[2]


def with_patience(
    go: Callable[[Patience], Awaitable[None]], *troubles: str, away_most_s: float = 0.01
) -> list[str]:
    """Run `go`; what was told."""
    told: list[str] = []

    async def run() -> None:
        one = Patience(1, tell=told.append, troubles=lambda: troubles, away_most_s=away_most_s)
        await go(one)
        one.close()

    asyncio.run(run())
    return told


def changed(one: Patience, state: str) -> None:
    one.heard("engine.changed", {"state": state, "detail": "a drill"})


async def turns(seconds: float) -> None:
    """Let the loop's timers go so far."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()


def test_a_service_that_stays_away_is_waited_for_only_so_long() -> None:
    async def go(one: Patience) -> None:
        changed(one, "unavailable")
        assert not one.over.is_set()
        await asyncio.wait_for(one.over.wait(), 10)
        assert "unavailable" in one.reason
        assert "a drill" in one.reason

    assert with_patience(go) == ["sttd: the engine is unavailable: a drill"]


def test_a_service_that_came_back_or_throttles_is_waited_for_without_end() -> None:
    async def go(one: Patience) -> None:
        for state in ("ok", "throttled"):
            changed(one, "unavailable")
            changed(one, state)
            await turns(0.03)
            assert not one.over.is_set()

    assert len(with_patience(go)) == 4


def test_a_shortage_of_memory_ends_no_wait_though_no_worker_is_there_yet() -> None:
    async def go(one: Patience) -> None:
        one.heard("daemon.degraded", {"reasons": ["fewer jobs at once"]})
        assert not one.over.is_set()

    assert with_patience(go, "memory") == ["sttd: fewer jobs at once"]


def test_workers_that_die_of_their_jobs_end_no_wait_for_the_jobs_do() -> None:
    async def go(one: Patience) -> None:
        one.heard("worker.ready", {})
        one.heard("daemon.degraded", {"reasons": ["3 workers died"]})
        assert not one.over.is_set()
        one.heard("job.failed", {"job": "j", "message": "quarantined"})
        assert one.over.is_set()

    with_patience(go, "pool")


def test_the_page_about_engines_says_how_long_a_service_may_be_away() -> None:
    page = (ROOT / "docs" / "engines.md").read_text()
    assert f"{AWAY_MOST_S / 60:.0f} minutes" in page
