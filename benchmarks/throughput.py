"""What recycling costs: `python -m benchmarks.throughput [--rounds N] [--jobs N] [--only NAMES]`.

Rounds of jobs that burn 10 ms of CPU on two workers with the Speech SDK loaded; in every pair of
rounds one with each worker replaced after 5 jobs and one without recycling, in changing order.
sttd takes each job as a file that is renamed into its inbox, keeps it in its ledger (every fsync
on) and publishes a JSON transcript by a synced rename; what the others keep is in their memory,
or in a Redis that writes nothing to disk. With `--long N`, N pairs of rounds of 1 s jobs in sttd.

CPU is that of all processes of a system; where whoever hands the jobs in is a process of its own
(sttd, Celery), it is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from benchmarks.support import ours, report
from benchmarks.support.peer import Peer, PeerError, PeerHungError, installed, peer
from sttd.client import Client
from tests.support.daemon import Daemon

BLOCKS = 3
LIFE = 5  # jobs
MS = 10.0
LONG_S = 1.0
LONG_JOBS = 6  # in a round
ROUND_S = 60.0
HANG_S = 30.0  # for a first round with recycling: where nothing hangs it takes one or two
BEFORE_S, AFTER_S = 0.1, 0.3  # of a round: a new folder is seen, whatever trails behind
SYSTEMS: dict[str, tuple[str, ...]] = {
    "sttd": (),
    "sttd, four formats": (),
    "pebble, forkserver": ("pools", "pebble", "forkserver"),
    "mp.Pool, spawn": ("pools", "mp", "spawn"),
    "mp.Pool, forkserver": ("pools", "mp", "forkserver"),
    "mp.Pool, fork": ("pools", "mp", "fork"),
    "futures, forkserver": ("pools", "futures", "forkserver"),
    "celery, redis": ("celery_pool",),
}
SETTINGS = {
    "sttd": "2 workers, 1 standby, settle 0, formats json, synchronous=FULL",
    "sttd, four formats": "the same with json, txt, srt, vtt",
    "pebble, forkserver": "SDK preloaded in the forkserver, CONSTS.sleep_unit 10 ms (default 100)",
    "mp.Pool, spawn": "SDK loaded by the initializer, chunksize 1",
    "mp.Pool, forkserver": "SDK preloaded in the forkserver, chunksize 1",
    "mp.Pool, fork": "SDK loaded before the fork, chunksize 1",
    "futures, forkserver": "SDK preloaded in the forkserver; hangs with max_tasks_per_child before "
    "the fix of CPython's issue 115634",
    "celery, redis": "prefork from a parent with the SDK, -O fair, no gossip, mingle or heartbeat; "
    "Redis on a Unix socket, nothing on disk, hiredis",
}

Round = dict[str, Any]


class Contestant(Protocol):
    """Something that does jobs."""

    def round(self, jobs: int, ms: float) -> Round:
        """Do so many; wall, CPU of all its processes, workers replaced."""


class Ours:
    """sttd."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.client = Client(daemon.endpoint)
        self.count = 0

    def round(self, jobs: int, ms: float) -> Round:
        return self._round(jobs, None if ms == MS else {"cpu_ms": ms})

    def long_round(self) -> Round:
        """Jobs that take a second and no CPU, as with a remote engine."""
        return self._round(LONG_JOBS, {"cpu_ms": 0, "sleep_s": LONG_S})

    def _round(self, jobs: int, options: dict[str, object] | None) -> Round:
        self.count += 1
        name = f"r{self.count}"
        folder = self._prepare(name, jobs, options)
        inbox, outbox = self.daemon.state / "inbox" / name, self.daemon.state / "outbox" / name
        inbox.mkdir()
        time.sleep(BEFORE_S)
        recycles, cpu = self._recycles(), ours.cpu_of_tree(self.daemon.pid)
        began = time.perf_counter()
        for file in sorted(os.listdir(folder), key=lambda file: not file.endswith(".json")):
            os.rename(folder / file, inbox / file)
        wait(outbox, jobs)
        wall = time.perf_counter() - began
        time.sleep(AFTER_S)
        return {
            "wall_s": wall,
            "cpu_s": ours.cpu_of_tree(self.daemon.pid) - cpu,
            "recycles": self._recycles() - recycles,
        }

    def _prepare(self, name: str, jobs: int, options: dict[str, object] | None) -> Path:
        folder = self.daemon.home / name
        folder.mkdir()
        first = ours.tiny_wav(self.daemon.home / "first.part")
        for number in range(jobs):
            shutil.copy(first, folder / f"{number}.wav")
            if options is not None:
                sidecar = report.json_bytes({"options": options})
                (folder / f"{number}.wav.json").write_bytes(sidecar)
        return folder

    def _recycles(self) -> int:
        return sum(msgspec.structs.astuple(self.client.status().recycles))


class Theirs:
    """A peer."""

    def __init__(self, process: Peer) -> None:
        self.process = process
        self.patience_s = ROUND_S

    def round(self, jobs: int, ms: float) -> Round:
        pid = self.process.process.pid
        cpu = ours.cpu_of_tree(pid)
        answer = self.process.ask(self.patience_s, do="burn", jobs=jobs, ms=ms)
        time.sleep(AFTER_S)
        spent = ours.cpu_of_tree(pid) - cpu - answer.pop("client_cpu_s", 0.0)
        return {**answer, "cpu_s": spent}


def wait(outbox: Path, jobs: int) -> None:
    """Until so many manifests are there; looks seldom at first, often near the end."""
    end = time.monotonic() + ROUND_S + jobs * 0.1
    while True:
        try:
            found = sum(name.endswith(".json") for name in os.listdir(outbox))
        except FileNotFoundError:
            found = 0
        if found >= jobs:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"{found} of {jobs} jobs done")
        time.sleep(0.02 if found < 0.9 * jobs else 0.002)


@contextlib.contextmanager
def contestant(name: str, life: int) -> Iterator[tuple[Contestant, dict[str, str]]]:
    """Start one whose workers live for so many jobs, and end it."""
    if name.startswith("sttd"):
        formats = ["json"] if name == "sttd" else ["json", "txt", "srt", "vtt"]
        sections: dict[str, dict[str, object]] = {
            "pool": {"workers": 2, "standby": 1},
            "recycle": {"max_requests": life, "max_requests_jitter": 0},
            "outbox": {"formats": formats},
            "engine.options": {"cpu_ms": MS},
        }
        with ours.running(**sections) as daemon:
            one = Ours(daemon)
            one.round(20, MS)
            yield one, {}
    else:
        module, *args = SYSTEMS[name]
        with peer(module, *args, str(life)) as process:
            yield Theirs(process), process.versions


def pair(on: Contestant | None, off: Contestant, first_on: bool, jobs: int) -> list[Round]:
    """A round of each, in this order."""
    found = []
    for recycling in (first_on, not first_on):
        one = on if recycling else off
        if one is not None:
            found.append({"recycling": recycling, "jobs": jobs, **one.round(jobs, MS)})
    return found


def block(name: str, pairs: int, jobs: int, rounds: list[Round]) -> dict[str, str]:
    """Some pairs of rounds of one system; its versions. A failure ends it, and is kept."""
    versions: dict[str, str] = {}
    try:
        with contextlib.ExitStack() as stack:
            off, versions = stack.enter_context(contestant(name, 0))
            on = None if hung(rounds) else start_recycling(name, jobs, rounds, stack)
            for number in range(pairs):
                rounds += pair(on, off, number % 2 == 0, jobs)
    except (PeerError, TimeoutError) as error:
        report.say(f"  {name}: {error}")
        rounds.append({"recycling": None, "jobs": jobs, "failed": str(error)[-300:]})
    return versions


def hung(rounds: list[Round]) -> bool:
    """Whether it did so with recycling, in a block before; once is enough."""
    return any("hangs" in one for one in rounds)


def start_recycling(
    name: str, jobs: int, rounds: list[Round], stack: contextlib.ExitStack
) -> Contestant | None:
    """The same that recycles, after a first round that does not count; None where it hangs."""
    on, _ = stack.enter_context(contestant(name, LIFE))
    if isinstance(on, Theirs):
        on.patience_s = HANG_S
    try:
        on.round(jobs, MS)
    except PeerHungError as error:
        report.say(f"  {name} hangs with recycling")
        rounds.append({"recycling": True, "jobs": jobs, "hangs": str(error)})
        return None
    if isinstance(on, Theirs):
        on.patience_s = ROUND_S
    return on


def long_rounds(pairs: int) -> list[Round]:
    """sttd with 1 s jobs."""
    rounds: list[Round] = []
    with contestant("sttd", 0) as (off, _), contestant("sttd", LIFE) as (on, _):
        assert isinstance(off, Ours)
        assert isinstance(on, Ours)
        for number in range(pairs):
            for recycling in (number % 2 == 0, number % 2 == 1):
                got = (on if recycling else off).long_round()
                rounds.append({"recycling": recycling, "jobs": LONG_JOBS, **got})
    return rounds


def summary(name: str, rounds: list[Round]) -> list[object]:
    """A row of the table: ratio of medians, jobs a second, CPU."""
    on, off = (
        [r for r in rounds if r["recycling"] is recycling and "wall_s" in r]
        for recycling in (True, False)
    )
    rate_on, rate_off = (report.p50(r["jobs"] / r["wall_s"] for r in some) for some in (on, off))
    recycles = sum(r["recycles"] for r in on)
    replaced = recycles - sum(r["recycles"] for r in off) * len(on) / max(1, len(off))
    cpu_on, cpu_off = (
        sum(r["cpu_s"] for r in some) / max(1, sum(r["jobs"] for r in some)) for some in (on, off)
    )
    jobs_on = sum(r["jobs"] for r in on)
    per_recycle = 1000 * (cpu_on - cpu_off) * jobs_on / replaced if replaced > 0 else float("nan")
    note = "hangs" if hung(rounds) and not on else f"{len(on)} / {len(off)}"
    return [name, note, rate_off, rate_on, rate_on / rate_off, 1000 * cpu_off, per_recycle]


def main() -> None:
    """Run the blocks, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="pairs of rounds of each system")
    parser.add_argument("--jobs", type=int, default=60, help="in a round")
    parser.add_argument("--long", type=int, default=30, help="pairs of rounds of 1 s jobs in sttd")
    parser.add_argument("--only", help="systems, by semicolons", default=";".join(SYSTEMS))
    options = parser.parse_args()
    names = [name for name in options.only.split(";") if name.startswith("sttd") or installed()]
    if shutil.which("redis-server") is None:
        names = [name for name in names if name != "celery, redis"]
        report.say("Celery is left out: there is no redis-server")
    body: dict[str, Any] = {**report.setting(), "settings": SETTINGS, "jobs_ms": MS, "life": LIFE}
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    for number in range(BLOCKS):
        pairs = len(range(number, options.rounds, BLOCKS))
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if pairs:
                report.say(f"block {number + 1} of {BLOCKS}: {name}")
                body["versions"].update(block(name, pairs, options.jobs, rounds[name]))
    if options.long:
        report.say("1 s jobs")
        rounds["sttd, 1 s jobs"] = long_rounds(options.long)
    body["rounds"] = rounds
    report.write("throughput", body)
    report.table(
        [
            "system",
            "rounds on / off",
            "jobs/s, no recycling",
            "jobs/s, recycling",
            "ratio",
            "CPU ms a job",
            "CPU ms a recycle",
        ],
        (summary(name, some) for name, some in rounds.items()),
    )


if __name__ == "__main__":
    main()
