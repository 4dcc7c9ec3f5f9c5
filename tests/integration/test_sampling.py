"""Looking at workers: together, as often as the policy says, and only what is new is handed on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sttd.core.recycling import MIB, RecyclePolicy, Vitals
from sttd.supervisor.sampling import Sampling
from tests.support.waiting import eventually_async

QUIET = "import sys; print(flush=True); sys.stdin.read()"
GROWING = """
import sys
print(flush=True)
held = []
for _ in sys.stdin:
    held.append(bytearray(b'x' * (8 << 20)))
"""


@contextmanager
def process(script: str = QUIET) -> Iterator[subprocess.Popen[bytes]]:
    """One that has begun."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


class Looks:
    """What a Sampling asked and told; `turns` counts the loop's turns in which it did."""

    def __init__(self, *, busy: bool = False, **policy: float) -> None:
        self.busy = busy
        self.turn = 0
        self.looked: list[tuple[str, int]] = []  # worker, turn
        self.told: list[tuple[str, Vitals]] = []
        self.sampling = Sampling(
            lambda worker, vitals: self.told.append((worker, vitals)),
            self._is_busy,
            RecyclePolicy(**policy),  # type: ignore[arg-type]  # seconds and bytes
        )

    def _is_busy(self, worker: str) -> bool:
        self.looked.append((worker, self.turn))
        asyncio.get_running_loop().call_soon(self._turned)
        return self.busy

    def _turned(self) -> None:
        self.turn += 1


def test_those_far_from_the_ceiling_are_looked_at_in_one_turn_of_the_loop() -> None:
    async def story() -> None:
        looks = Looks(sample_every=0.05)
        with process() as first, process() as second:
            looks.sampling.add("w-1", first.pid)
            looks.sampling.add("w-2", second.pid)
            begun = len(looks.looked)
            await eventually_async(lambda: len(looks.looked) >= begun + 20, "twenty looks")
            looks.sampling.close()
        turns: dict[int, set[str]] = {}
        for worker, turn in looks.looked[begun : begun + 20]:
            turns.setdefault(turn, set()).add(worker)
        # they fall into step within a turn, and a look was cut off at either end
        assert sum(workers != {"w-1", "w-2"} for workers in turns.values()) <= 2, turns

    asyncio.run(story())


def test_an_rss_that_is_what_it_was_is_not_told_again() -> None:
    async def story() -> None:
        looks = Looks(sample_every=0.005)
        with process() as child:
            looks.sampling.add("w-1", child.pid)
            await eventually_async(lambda: len(looks.looked) >= 100, "a hundred looks")
            looks.sampling.close()
        assert len(looks.told) < len(looks.looked)
        assert len(looks.sampling.latest("w-1")) == 0  # gone

    asyncio.run(story())


@pytest.mark.parametrize("busy", [False, True])
def test_growth_is_told_at_the_next_look(busy: bool) -> None:
    async def story() -> None:
        looks = Looks(busy=busy, sample_every=0.02)
        with process(GROWING) as child:
            looks.sampling.add("w-1", child.pid)
            before = looks.told[-1][1].rss_bytes
            assert child.stdin is not None
            child.stdin.write(b"more\n")
            child.stdin.flush()

            def grown() -> bool:
                return looks.told[-1][1].rss_bytes - before >= 8 * MIB

            await eventually_async(grown, "it is told")
            last = looks.told[-1][1]
            assert last.peak_rss_bytes >= last.rss_bytes
            looks.sampling.close()

    asyncio.run(story())


def test_all_is_read_again_once_a_second_though_rss_is_what_it_was() -> None:
    async def story() -> None:
        looks = Looks(sample_every=0.05)
        with process() as child:
            looks.sampling.add("w-1", child.pid)
            await eventually_async(lambda: len(looks.told) >= 3, "told again and again")
            assert all(vitals.threads == 1 and vitals.fds for _, vitals in looks.told)
            looks.sampling.close()

    asyncio.run(story())


def test_a_worker_near_the_ceiling_is_looked_at_out_of_step() -> None:
    async def story() -> None:
        with process(GROWING) as child, process() as calm:
            looks = Looks(busy=True, sample_every=30.0, rss_ceiling=1 << 40)
            looks.sampling.add("w-1", child.pid)
            looks.sampling.add("w-2", calm.pid)
            rss = looks.told[0][1].rss_bytes
            looks.sampling.policy = RecyclePolicy(sample_every=30.0, rss_ceiling=int(rss * 1.1))
            looks.sampling.look("w-1")  # as after a job: from now on it is seen to be near
            begun = len(looks.looked)
            await eventually_async(lambda: len(looks.looked) >= begun + 20, "twenty looks")
            looks.sampling.close()
            assert {worker for worker, _ in looks.looked[begun + 2 :]} <= {"w-1", "w-2"}
            assert sum(worker == "w-1" for worker, _ in looks.looked[begun:]) >= 10

    asyncio.run(story())
