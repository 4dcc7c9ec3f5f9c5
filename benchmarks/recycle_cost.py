"""Where the CPU of a recycle goes: `python -m benchmarks.recycle_cost [ROUNDS] [JOBS]`.

Rounds as in `throughput`, in one sttd with each worker replaced after 5 jobs and in one without
recycling, turn about; the CPU of each kind of process, and what recycling adds to it for each
worker replaced. Beside it what no design with processes can do without, measured in a process that
has loaded what a template has: a fork and an exit with nothing in between, once, and twice over as
sttd does it so that a worker is the supervisor's own child.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import throughput
from benchmarks.support import ours, report

KINDS = {"sttd-engine-t": "template", "sttd-decode-t": "decoders' template"}
BARE = 200  # forks
SUPERVISOR, WORKERS = "supervisor", "workers and decoders"


Cpu = dict[str, float]  # seconds by kind of process


def by_kind(pid: int) -> Cpu:
    """CPU seconds so far of the daemon with this pid; the supervisor reaps workers and decoders."""
    found: Cpu = defaultdict(float)
    for one in ours.tree(pid):
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{one}/comm").read_text().strip()
            own = ours.cpu_s(one, reaped=False)
            reaped = ours.cpu_s(one, reaped=True) - own
            if one == pid:
                found[SUPERVISOR] += own
                found[WORKERS] += reaped
            else:
                found[KINDS.get(name, WORKERS)] += own + reaped
    return found


def measured(one: throughput.Ours, jobs: int, total: Cpu) -> int:
    """A round; its CPU is added to the total. How many workers were replaced."""
    before = by_kind(one.daemon.pid)
    done = one.round(jobs, throughput.MS)
    for kind, seconds in by_kind(one.daemon.pid).items():
        total[kind] += seconds - before[kind]
    return int(done["recycles"])


def compare(rounds: int, jobs: int) -> tuple[Cpu, Cpu, int]:
    """CPU without recycling, with it, and workers replaced; over all rounds."""
    totals: dict[int, Cpu] = {life: defaultdict(float) for life in (0, throughput.LIFE)}
    recycles = 0
    with contextlib.ExitStack() as stack:
        daemons = {}
        for life in totals:
            one, _ = stack.enter_context(throughput.contestant("sttd", life))
            assert isinstance(one, throughput.Ours)
            one.round(jobs, throughput.MS)
            daemons[life] = one
        for number in range(rounds):
            for life in sorted(daemons, reverse=number % 2 == 0):
                recycles += measured(daemons[life], jobs, totals[life])
    return totals[0], totals[throughput.LIFE], recycles


def bare() -> dict[str, float]:
    """CPU milliseconds of a fork and an exit, once and twice over; run in a fresh process."""
    import azure.cognitiveservices.speech  # noqa: F401, PLC0415

    from sttd.worker import main as _  # noqa: F401, PLC0415
    from sttd.worker.rehearsal import rehearse_job  # noqa: PLC0415

    rehearse_job()
    gc.collect()
    gc.freeze()
    return {"fork once": cost(lambda: None), "fork twice": cost(fork_and_exit)}


def fork_and_exit(then: Callable[[], None] = lambda: None) -> None:
    """A child that does this and exits, reaped."""
    if (child := os.fork()) == 0:
        then()
        os._exit(0)
    os.waitpid(child, 0)


def cost(then: Callable[[], None]) -> float:
    """CPU milliseconds of a child that does this, the parent's included."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)

    def now() -> float:
        return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, who))

    began = now()
    for _ in range(BARE):
        fork_and_exit(then)
        time.sleep(0.002)
    return 1000 * (now() - began) / BARE


def main(rounds: int = 10, jobs: int = 100) -> None:
    """Measure, write, print."""
    command = [sys.executable, "-m", "benchmarks.recycle_cost", "--bare"]
    body: dict[str, Any] = {**report.setting(), "rounds": rounds, "jobs": jobs}
    run = subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True, check=True)
    body["bare_ms"] = json.loads(run.stdout)
    off, on, recycles = compare(rounds, jobs)
    body.update(cpu_s_off=off, cpu_s_on=on, recycles=recycles)
    report.write("recycle_cost", body)
    done = rounds * jobs
    kinds = sorted({*off, *on})
    rows: list[list[object]] = [
        [kind, 1000 * off[kind] / done, 1000 * (on[kind] - off[kind]) / recycles] for kind in kinds
    ]
    all_off, all_on = sum(off.values()), sum(on.values())
    rows.append(["all", 1000 * all_off / done, 1000 * (all_on - all_off) / recycles])
    rows += [[f"bare process: {name}", "-", ms] for name, ms in body["bare_ms"].items()]
    report.table(["CPU of", "ms a job, no recycling", "ms a recycle"], rows)


if __name__ == "__main__":
    if sys.argv[1:] == ["--bare"]:
        print(json.dumps(bare()))
    else:
        main(*(int(argument) for argument in sys.argv[1:]))
