"""What a leak costs: `python -m benchmarks.overshoot [--repetitions N] [--only NAME,...]`.

A job leaks at a steady rate past a ceiling of 400 MiB. How far it gets (overshoot), how long after
the crossing it is killed, how long after the dead process could be reaped the next try of the job
runs. The same leak (drill's) in sttd and in peers at the best settings their documentation
allows; watched from outside, every millisecond, at real-time priority where that is allowed.

Systems take turns in blocks, in changing order; within a block nothing else of ours runs. At the
end of each block: the CPU that a system takes with nothing to do, which is what watching costs.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.support import observer, ours, report
from benchmarks.support.leaking import CEILING_MB, MIB, SYSTEMS, Contestant, contestant
from benchmarks.support.peer import PeerError, installed

BLOCKS = 3
WATCH_S = 25.0
RETRY_S = 15.0
IDLE_S = 2.0
STARTS = 3  # of one system in one block
# MB a second: RSS from which on it leaks steadily, so that a job crosses after a second or less
RATES = {200: 220, 20: 380, 1000: 100}
SHARED_MEMORY = Path("/dev/shm")  # traces lie here: no disk may hold up a leak


def repetition(one: Contestant, folder: Path, rate: int, busy: set[int]) -> dict[str, Any]:
    """One leak; times in milliseconds, sizes in MB of 1,048,576 bytes. `busy` gets who ran it."""
    trace, marker = folder / f"t{time.monotonic_ns()}", folder / f"m{time.monotonic_ns()}"
    one.leak(trace, marker, rate, RATES[rate])
    first = observer.first_line(trace, 20)
    if first is None:
        raise PeerError("the job did not start")
    seen = observer.watch(first.pid, CEILING_MB * MIB, WATCH_S)
    again = observer.first_line(trace, RETRY_S, other_than=first.pid)
    busy |= {first.pid, again.pid if again else 0}
    lines = [line for line in observer.trace(trace) if line.pid == first.pid]
    crossed = crossing(lines, seen)
    peak = max([seen.peak, *(line.rss for line in lines)])
    told = one.settle()
    assigned = told.pop("assigned_ns", None)
    wall = time.time_ns() - time.monotonic_ns()
    return {
        "rate": rate,
        "idle_mb": first.rss / MIB,
        "peak_mb": peak / MIB,
        "overshoot_percent": 100 * (peak / MIB / CEILING_MB - 1),
        "crossing_to_kill_ms": span(crossed, seen.killed_ns),
        "kill_to_gone_ms": span(seen.killed_ns, seen.gone_ns),
        "gone_to_retry_ms": span(seen.gone_ns, again.at_ns if again else None),
        "gone_to_assigned_ms": span(seen.gone_ns, assigned - wall if assigned else None),
        **told,
    }


def crossing(lines: list[observer.Line], seen: observer.Seen) -> int | None:
    """When the ceiling was crossed: between two lines of the job's own trace, or as seen."""
    ceiling = CEILING_MB * MIB
    for before, after in itertools.pairwise(lines):
        if before.rss <= ceiling < after.rss:
            share = (ceiling - before.rss) / (after.rss - before.rss)
            between = before.at_ns + round(share * (after.at_ns - before.at_ns))
            return min(between, seen.crossed_ns or between)
    return seen.crossed_ns


def span(start_ns: int | None, end_ns: int | None) -> float | None:
    """Milliseconds."""
    if start_ns is None or end_ns is None:
        return None
    return (end_ns - start_ns) / 1e6


def block(
    name: str, rates: list[int], results: list[dict[str, Any]], idle: list[float]
) -> dict[str, str]:
    """All repetitions of one system in one block; its versions.

    After a failure, which is kept, the system is started anew, but only so often.
    """
    folder = Path(tempfile.mkdtemp(prefix="sttd-leak", dir=shared_memory()))
    versions: dict[str, str] = {}
    left, busy = list(rates), set[int]()
    try:
        for _ in range(STARTS):
            if left:
                with contestant(name) as (one, versions):
                    results += run_until_failure(one, folder, left, SYSTEMS[name].period_s, busy)
                    if not left:
                        idle.append(idle_percent(one.pid, busy))
    except (PeerError, TimeoutError) as error:
        report.say(f"  {name} does not start: {str(error)[-500:]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return versions


def shared_memory() -> str | None:
    """Where a file is memory, if there is such a place."""
    return str(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None


def run_until_failure(
    one: Contestant, folder: Path, left: list[int], period_s: float, busy: set[int]
) -> Iterator[dict[str, Any]]:
    """Repetitions at the rates that are left, which are taken off."""
    while left:
        rate = left.pop()
        time.sleep(random.uniform(0, period_s))  # whoever looks seldom must not be lucky or unlucky
        try:
            yield {**repetition(one, folder, rate, busy), "at": time.time()}
        except (PeerError, TimeoutError) as error:
            report.say(f"  failed: {str(error)[-200:]}")
            yield {"rate": rate, "failed": str(error)[-500:], "at": time.time()}
            return


def idle_percent(pid: int, busy: set[int]) -> float:
    """CPU of all its processes in percent of a core, but for those that ran the job."""
    time.sleep(IDLE_S / 2)
    watching = [one for one in ours.tree(pid) if one not in busy]
    before, began = sum(map(ours.cpu_ns, watching)), time.monotonic_ns()
    time.sleep(IDLE_S)
    return 100 * (sum(map(ours.cpu_ns, watching)) - before) / (time.monotonic_ns() - began)


def plan(name: str, repetitions: int, number: int) -> list[int]:
    """The rates of one block, mixed: its part of the repetitions."""
    rates = []
    for rate in RATES:
        wanted = repetitions if rate == 200 else round(repetitions * SYSTEMS[name].share)
        rates += [rate] * len(range(number, wanted, BLOCKS))
    random.Random(number).shuffle(rates)
    return rates


def rows(results: dict[str, list[dict[str, Any]]]) -> Iterator[list[object]]:
    """For the table."""
    for rate in RATES:
        for name, all_of_it in results.items():
            good = [r for r in all_of_it if r["rate"] == rate and "failed" not in r]
            if not good:
                continue
            row: list[object] = [f"{rate} MB/s", name, len(good)]
            for key in (
                "overshoot_percent",
                "crossing_to_kill_ms",
                "kill_to_gone_ms",
                "gone_to_assigned_ms",
                "gone_to_retry_ms",
            ):
                values = [r[key] for r in good if r[key] is not None]
                row.append(f"{report.p50(values):.1f} / {report.p99(values):.1f}" if values else "")
            yield row


def main() -> None:
    """Run the blocks, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--only", default=",".join(SYSTEMS), help="systems, by commas")
    options = parser.parse_args()
    names = options.only.split(",")
    if not installed():
        report.say("peers are left out: run `make peers-env`")
        names = ["sttd"]
    body: dict[str, Any] = {**report.setting(), "observer_real_time": observer.real_time()}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    idle: dict[str, list[float]] = {name: [] for name in names}
    for number in range(BLOCKS):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            report.say(f"block {number + 1} of {BLOCKS}: {name}")
            rates = plan(name, options.repetitions, number)
            body["versions"].update(block(name, rates, results[name], idle[name]))
    settings = {name: SYSTEMS[name].setting for name in names}
    body.update(ceiling_mb=CEILING_MB, settings=settings, repetitions=results, idle_percent=idle)
    report.write("overshoot", body)
    report.table(
        [
            "leak",
            "system",
            "n",
            "overshoot %, p50 / p99",
            "crossing to kill ms",
            "kill to reapable ms",
            "reapable to given out ms",
            "reapable to retry runs ms",
        ],
        rows(results),
    )
    report.table(
        ["CPU when idle, without the job's own process", "% of a core, p50"],
        ([name, report.p50(some)] for name, some in idle.items()),
    )


if __name__ == "__main__":
    main()
