"""Waiting for jobs: the real ledger, and originals that are put away late."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sttd.core.jobs import JobState
from sttd.supervisor.bell import Bell
from sttd.supervisor.waiting import Waiting
from tests.support.files import World, accept_all, living


async def failed(world: World, name: str = "a.wav") -> str:
    """A job whose row says so already, and whose original is still in the spool."""
    world.drop(name)
    await accept_all(world)
    [job] = await world.ledger.claim(1)
    assert await world.ledger.fail(job.id, job.token, code="failed", message="x", attempt=None)
    return job.id


def test_a_failed_job_is_waited_for_until_its_report_lies_in_failed(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            job = await failed(world)
            waiting = asyncio.create_task(Waiting(world.ledger, Bell()).at_rest([job], 30.0))
            await asyncio.wait([waiting], timeout=0.3)
            assert not waiting.done()
            await world.dispose(job)
            rows = await waiting
            assert rows[job].state is JobState.FAILED
            assert world.files("failed") == ["failed/a.wav", "failed/a.wav.error.json"]

    asyncio.run(story())


def test_nobody_waits_for_ever_for_an_original_that_cannot_be_put_away(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            job = await failed(world)
            async with asyncio.timeout(10):
                impatient = Waiting(world.ledger, Bell(), patience_s=0.1)
                rows = await impatient.at_rest([job], 60.0)
                assert rows[job].state is JobState.FAILED
                rows = await Waiting(world.ledger, Bell(), patience_s=60.0).at_rest([job], 0.1)
                assert rows[job].state is JobState.FAILED

    asyncio.run(story())


def test_a_job_that_there_is_not_ends_the_waiting_for_the_others(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            job = await failed(world)
            async with asyncio.timeout(10):
                rows = await Waiting(world.ledger, Bell()).at_rest([job, "none"], 60.0)
            assert list(rows) == [job]

    asyncio.run(story())
