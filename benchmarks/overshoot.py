"""What a leak costs: `python -m benchmarks.overshoot [--repetitions N] [--only NAME,...]`.

A job leaks at a steady rate past a ceiling of 400 MiB. How far it gets (overshoot), how long after
the crossing it is killed, how long after the dead process could be reaped the next try of the job
runs. The same leak (drill's) in sttd and in peers at the best settings their documentation
allows; watched from outside, every millisecond, at real-time priority where that is allowed.

Systems take turns in blocks, in changing order; within a block nothing else of ours runs.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import itertools
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from benchmarks.support import observer, ours, report
from benchmarks.support.peer import Peer, PeerError, installed, peer
from sttd.client import Client
from tests.support.daemon import Daemon

MIB = 1 << 20
CEILING_MB = 400
MOST_MB = 3000  # where a leak ends by itself
BLOCKS = 3
WATCH_S = 25.0
RETRY_S = 15.0
STARTS = 3  # of one system in one block
# MB a second: MB leaked at once before, so that a job crosses after a second or less
RATES = {200: 180, 20: 340, 1000: 0}
# What a peer is asked for besides 30 times 200 MB/s: a share, for its kills take seconds.
SHARE = {"sttd": 1.0, "dask": 0.34, "circus": 0.34, "uwsgi": 0.0, "granian": 0.0}
SETTINGS = {
    "sttd": "defaults but for rss_ceiling = 400MiB; one worker, one standby, backoff 0",
    "dask": "Nanny, monitor-interval 10 ms (default 100), terminate at 400 MiB, no pause "
    "or spill, forkserver, two workers",
    "circus": "resource_watcher, loop_rate 0.1 s (default 60), max_count 0, graceful_timeout 0",
    "uwsgi": "evil-reload-on-rss 400, mem-collector-freq 1 (the least), client tries again at once",
    "granian": "workers-max-rss 400, rss-sample-interval 1 (the least), respawn-interval 0.1, "
    "workers-kill-timeout 1; client tries again at once",
}


class Contestant(Protocol):
    """Starts one leaking job; `settle` waits until it could take the next."""

    def leak(self, trace: Path, marker: Path, rate: int, base: int) -> None:
        """Start it."""

    def settle(self) -> dict[str, Any]:
        """Wait until all is as before; what it says of itself."""


class Ours:
    """sttd."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.client = Client(daemon.endpoint)
        self.job = Path()
        self.count = 0
        # a worker that dies in its first job counts as one that cannot start, so it gets another
        warm = ours.drop(daemon, "warm")
        ours.until(warm.exists, 20)

    def leak(self, trace: Path, marker: Path, rate: int, base: int) -> None:
        self.count += 1
        self.job = ours.drop(
            self.daemon,
            f"leak-{self.count}",
            {
                "leak_mb": base,
                "leak_mb_per_s": rate,
                "leak_until_mb": MOST_MB,
                "trace": str(trace),
                "once_marker": str(marker),
            },
        )

    def settle(self) -> dict[str, Any]:
        ours.until(self.job.exists, 60)
        ours.until(lambda: ours.full(self.daemon), 60)
        (life,) = self.client.lives(limit=1)
        return {
            "assigned_ns": self._assigned_ns(),
            "cause": life.cause,
            "kill_latency_s": life.kill_latency_s,
            "replacement_latency_s": life.replacement_latency_s,
        }

    def _assigned_ns(self) -> int:
        """When the job was given to its last worker: wall clock, of a millisecond's precision."""
        last = self.daemon.events("job.started")[-1]
        return round(dt.datetime.fromisoformat(last["timestamp"]).timestamp() * 1e9)


class Theirs:
    """A peer."""

    def __init__(self, process: Peer) -> None:
        self.process = process

    def leak(self, trace: Path, marker: Path, rate: int, base: int) -> None:
        self.process.send(
            do="leak", trace=str(trace), marker=str(marker), rate=rate, base=base, most=MOST_MB
        )

    def settle(self) -> dict[str, Any]:
        answer = self.process.answer(60)
        return {"said": answer}


@contextlib.contextmanager
def contestant(name: str) -> Iterator[tuple[Contestant, dict[str, str]]]:
    """Start one, and end it."""
    if name == "sttd":
        sections: dict[str, dict[str, object]] = {
            "pool": {"workers": 1, "standby": 1},
            "recycle": {"rss_ceiling": f"{CEILING_MB}MiB"},
            "retry": {"backoff": 0, "max_crashes": 1000, "max_attempts": 1000},
        }
        with ours.running(**sections) as daemon:
            yield Ours(daemon), {}
    else:
        with peer(f"leak_{name}", str(CEILING_MB)) as process:
            yield Theirs(process), process.versions


def repetition(one: Contestant, folder: Path, rate: int, base: int) -> dict[str, Any]:
    """One leak; times in milliseconds, sizes in MB of 1,048,576 bytes."""
    trace, marker = folder / f"t{time.monotonic_ns()}", folder / f"m{time.monotonic_ns()}"
    one.leak(trace, marker, rate, base)
    first = observer.first_line(trace, 20)
    if first is None:
        raise PeerError("the job did not start")
    seen = observer.watch(first.pid, CEILING_MB * MIB, WATCH_S)
    again = observer.first_line(trace, RETRY_S, other_than=first.pid)
    lines = [line for line in observer.trace(trace) if line.pid == first.pid]
    crossed = crossing(lines, seen)
    peak = max([seen.peak, *(line.rss for line in lines)])
    told = one.settle()
    assigned = told.pop("assigned_ns", None)
    wall = time.time_ns() - time.monotonic_ns()
    return {
        "rate": rate,
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


def block(name: str, rates: list[int], results: list[dict[str, Any]]) -> dict[str, str]:
    """All repetitions of one system in one block; its versions.

    After a failure, which is kept, the system is started anew, but only so often.
    """
    folder = Path(tempfile.mkdtemp(prefix="sttd-leak"))
    versions: dict[str, str] = {}
    left = list(rates)
    try:
        for _ in range(STARTS):
            if left:
                with contestant(name) as (one, versions):
                    results += run_until_failure(one, folder, left)
    except PeerError as error:
        report.say(f"  {name} does not start: {str(error)[-500:]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return versions


def run_until_failure(one: Contestant, folder: Path, left: list[int]) -> Iterator[dict[str, Any]]:
    """Repetitions at the rates that are left, which are taken off."""
    while left:
        rate = left.pop()
        try:
            yield {**repetition(one, folder, rate, RATES[rate]), "at": time.time()}
        except (PeerError, TimeoutError) as error:
            report.say(f"  failed: {str(error)[-200:]}")
            yield {"rate": rate, "failed": str(error)[-500:], "at": time.time()}
            return


def plan(name: str, repetitions: int, number: int) -> list[int]:
    """The rates of one block, mixed: its part of the repetitions."""
    rates = []
    for rate in RATES:
        wanted = repetitions if rate == 200 else round(repetitions * SHARE[name])
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
    parser.add_argument("--only", default=",".join(SETTINGS), help="systems, by commas")
    options = parser.parse_args()
    names = options.only.split(",")
    if not installed():
        report.say("peers are left out: run `make peers-env`")
        names = ["sttd"]
    body: dict[str, Any] = {**report.setting(), "observer_real_time": observer.real_time()}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(BLOCKS):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            report.say(f"block {number + 1} of {BLOCKS}: {name}")
            rates = plan(name, options.repetitions, number)
            body["versions"].update(block(name, rates, results[name]))
    body.update(ceiling_mb=CEILING_MB, settings=SETTINGS, repetitions=results)
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


if __name__ == "__main__":
    main()
