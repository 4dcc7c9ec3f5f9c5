"""Pools of Python as contestants: `pools KIND START TASKS`, TASKS a worker's life in jobs or 0.

Two workers that have the Speech SDK loaded; where the pool can preload it before forking, it does,
and its own code as well.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.line import Line
from benchmarks.peers.replaced import Replaced

WORKERS = 2
LOOK_S = 0.01  # pebble's loops; 0.1 unless told otherwise, and it looks for the dead no oftener
PRELOADED = [work.SDK, "benchmarks.peers.pools"]
# What a worker of each kind runs, which it would have to import after the fork.
WORKER_CODE = {
    "mp": ["multiprocessing.pool"],
    "futures": ["concurrent.futures.process"],
    "pebble": ["pebble"],
}

Run = Callable[[Callable[[Any], int], list[Any]], list[int]]


def make(kind: str, start: str, tasks: int) -> tuple[Run, Callable[[], None]]:
    """How to run jobs in a new pool, and how to end it."""
    context: Any = multiprocessing.get_context(start)
    if start == "forkserver":
        context.set_forkserver_preload([*PRELOADED, *WORKER_CODE.get(kind, [])])
    if start == "fork":
        work.load_sdk()
    return {"mp": _mp, "futures": _futures, "pebble": _pebble, "loky": _loky}[kind](context, tasks)


def _mp(context: Any, tasks: int) -> tuple[Run, Callable[[], None]]:
    pool = context.Pool(WORKERS, initializer=work.load_sdk, maxtasksperchild=tasks or None)
    return lambda job, cases: list(pool.imap_unordered(job, cases)), pool.terminate


def _futures(context: Any, tasks: int) -> tuple[Run, Callable[[], None]]:
    pool = ProcessPoolExecutor(
        WORKERS,
        mp_context=context,
        initializer=work.load_sdk,
        max_tasks_per_child=tasks or None,
    )
    return lambda job, cases: list(pool.map(job, cases)), lambda: pool.shutdown(cancel_futures=True)


def _pebble(context: Any, tasks: int) -> tuple[Run, Callable[[], None]]:
    from pebble import CONSTS, ProcessPool  # noqa: PLC0415 - each kind imports its own

    CONSTS.sleep_unit = LOOK_S
    pool = ProcessPool(
        max_workers=WORKERS, max_tasks=tasks, initializer=work.load_sdk, context=context
    )

    def run(job: Callable[[Any], int], cases: list[Any]) -> list[int]:
        futures = [pool.schedule(job, args=[case]) for case in cases]
        return [future.result() for future in futures]

    return run, pool.stop


def _loky(_context: Any, _tasks: int) -> tuple[Run, Callable[[], None]]:
    from loky import get_reusable_executor  # noqa: PLC0415

    pool = get_reusable_executor(WORKERS, timeout=None, initializer=work.load_sdk)
    return lambda job, cases: list(pool.map(job, cases)), lambda: pool.shutdown(kill_workers=True)


def spike(megabytes: float) -> int:
    """For 50 ms."""
    return work.spike(megabytes, 0.05)


def main() -> None:
    """Serve rounds of jobs."""
    line = Line()
    kind, start, tasks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    run, end = make(kind, start, tasks)
    replaced = Replaced(WORKERS, lambda: run(work.burn_ms, [20.0] * 2 * WORKERS))

    def burn(jobs: int, ms: float) -> dict[str, Any]:
        began = time.perf_counter()
        pids = run(work.burn_ms, [ms] * jobs)
        return {"wall_s": time.perf_counter() - began, "recycles": replaced.count(pids)}

    def spikes(jobs: int, megabytes: float) -> dict[str, Any]:
        return {"recycles": replaced.count(run(spike, [megabytes] * jobs))}

    def rest(seconds: float) -> list[int]:
        run(work.rest, [seconds] * WORKERS)  # never answered: it is killed meanwhile
        return []

    packages = {"pebble": ["pebble"], "loky": ["loky"]}.get(kind, [])
    line.serve({"burn": burn, "spikes": spikes, "rest": rest}, *packages)
    end()
