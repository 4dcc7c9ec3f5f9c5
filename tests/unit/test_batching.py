"""What is asked together is done together, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sttd.supervisor import batching
from sttd.supervisor.batching import MOST, Batching


class Doubling:
    """Doubles numbers, a batch at a time, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.let = asyncio.Event()
        self.let.set()
        self.begun = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        self.begun.set()
        await self.let.wait()
        return [ValueError(str(n)) if n < 0 else n * 2 for n in items]


def test_a_single_one_is_done_at_once_and_by_itself() -> None:
    async def story() -> None:
        doubling = Doubling()
        assert await Batching(doubling).ask(4) == 8
        assert doubling.batches == [[4]]

    asyncio.run(story())


def test_what_comes_while_a_batch_is_under_way_makes_the_next_one() -> None:
    async def story() -> None:
        doubling = Doubling()
        doubling.let.clear()
        batching = Batching(doubling)
        first = asyncio.create_task(batching.ask(1))
        await doubling.begun.wait()
        rest = [asyncio.create_task(batching.ask(n)) for n in range(2, 2 + MOST + 1)]
        await asyncio.sleep(0)
        doubling.let.set()
        assert await asyncio.gather(first, *rest) == [n * 2 for n in range(1, 2 + MOST + 1)]
        assert [len(batch) for batch in doubling.batches] == [1, MOST, 1]

    asyncio.run(story())


def test_an_error_is_told_to_the_one_whose_it_is() -> None:
    async def story() -> None:
        batching = Batching(Doubling())
        good, bad = await asyncio.gather(batching.ask(3), batching.ask(-3), return_exceptions=True)
        assert good == 6
        assert isinstance(bad, ValueError)

    asyncio.run(story())


def test_an_error_of_the_whole_batch_is_told_to_all_and_the_next_batch_goes_on() -> None:
    async def story() -> None:
        calls = 0

        async def failing_once(items: Sequence[int]) -> list[int | Exception]:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise OSError("the disk is away")
            return list(items)

        batching: Batching[int, int] = Batching(failing_once)
        for answer in await asyncio.gather(
            batching.ask(1), batching.ask(2), return_exceptions=True
        ):
            assert isinstance(answer, OSError)
        assert await batching.ask(5) == 5

    asyncio.run(story())


def test_who_no_longer_waits_holds_up_nobody() -> None:
    async def story() -> None:
        doubling = Doubling()
        doubling.let.clear()
        batching = Batching(doubling)
        gone = asyncio.create_task(batching.ask(1))
        await doubling.begun.wait()
        gone.cancel()
        stays = asyncio.create_task(batching.ask(2))
        doubling.let.set()
        assert await stays == 4
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(story())


def test_where_no_more_is_coming_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "APART_S", 3600.0)

    async def story() -> None:
        doubling = Doubling()
        more = True
        doubled = Batching(doubling, lambda: more)
        assert await doubled.ask(1) == 2
        early = asyncio.create_task(doubled.ask(2))  # waits for company
        await asyncio.sleep(0)
        more = False
        assert await doubled.ask(3) == 6
        assert await early == 4
        assert doubling.batches == [[1], [2, 3]]

    asyncio.run(story())
