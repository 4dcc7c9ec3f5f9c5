"""Whether the supervisor grows: `python -m benchmarks.endurance [JOBS] [RECYCLES]`.

100,000 jobs and 20,000 recycles unless told otherwise; the inbox never holds more than some
hundred files, and what is published is removed, as a user's collector would. Every thousandth job
a line goes to benchmarks/results/endurance.jsonl, at once: RSS, descriptors, threads, children and
zombies of the supervisor, RSS of the templates, the ledger's size. So a run that is cut short
still tells what it saw. The end of a run is written to endurance.json.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import msgspec

from benchmarks.support import ours, report
from sttd.client import Client
from tests.support.daemon import Daemon

MIB = 1 << 20
AHEAD = 300  # files in the inbox or the queue at most
BATCH = 50
EVERY = 1000  # jobs between samples
LOOK_S = 0.05
STUCK_S = 120.0


def sample(daemon: Daemon, done: int, recycles: int, began: float) -> dict[str, Any]:
    """How the supervisor is."""
    pid = daemon.pid
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    states = [state(int(child)) for child in children]
    ledger = sum(file.stat().st_size for file in (daemon.state / "ledger").iterdir())
    return {
        "jobs": done,
        "recycles": recycles,
        "seconds": round(time.monotonic() - began, 1),
        "rss_mib": round(int(status["VmRSS"].split()[0]) / 1024, 2),
        "peak_mib": round(int(status["VmHWM"].split()[0]) / 1024, 2),
        "fds": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
        "children": len(children),
        "zombies": states.count("Z"),
        "cpu_s": ours.cpu_s(pid, reaped=False),
        "cpu_all_s": ours.cpu_of_tree(pid),
        "ledger_mib": round(ledger / MIB, 1),
    }


def state(pid: int) -> str:
    """The letter of /proc/PID/stat; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


class Feeder:
    """Keeps the daemon supplied and clears what it publishes."""

    def __init__(self, daemon: Daemon, jobs: int) -> None:
        self.daemon = daemon
        self.jobs = jobs
        self.given = 0
        self.done = 0
        self._recording = ours.tiny_wav(daemon.home / "recording")
        self._staged = daemon.home / "staged"
        self._staged.mkdir()

    def feed(self) -> None:
        """Rename recordings into the inbox, unless enough are on their way."""
        while self.given < self.jobs and self.given - self.done + BATCH <= AHEAD:
            for _ in range(min(BATCH, self.jobs - self.given)):
                self.given += 1
                name = f"{self.given}.wav"
                staged = self._staged / name
                shutil.copy(self._recording, staged)
                staged.rename(self.daemon.state / "inbox" / name)

    def collect(self) -> None:
        """Remove the transcripts that are there, and count them."""
        outbox = self.daemon.state / "outbox"
        for name in os.listdir(outbox):
            if name.endswith(".json"):
                (outbox / name).unlink()
                self.done += 1


def endure(daemon: Daemon, client: Client, jobs: int, file: TextIO) -> list[dict[str, Any]]:
    """Until all are done; the samples."""
    feeder = Feeder(daemon, jobs)
    began = moved = time.monotonic()
    samples: list[dict[str, Any]] = []
    while feeder.done < jobs:
        before = feeder.done
        feeder.feed()
        feeder.collect()
        if feeder.done > before:
            moved = time.monotonic()
        elif time.monotonic() - moved > STUCK_S:
            raise TimeoutError(f"nothing was done for {STUCK_S:g} s; {feeder.done} of {jobs}")
        if feeder.done // EVERY > before // EVERY or feeder.done == jobs:
            recycles = sum(msgspec.structs.astuple(client.status().recycles))
            samples.append(sample(daemon, feeder.done, recycles, began))
            file.write(json.dumps(samples[-1]) + "\n")
            file.flush()
            report.say(json.dumps(samples[-1]))
        time.sleep(LOOK_S)
    return samples


def main(jobs: int = 100_000, recycles: int = 20_000) -> None:
    """Run, write, print."""
    life = max(1, jobs // recycles)
    body: dict[str, Any] = {**report.setting(), "jobs": jobs, "jobs_in_a_life": life}
    report.RESULTS.mkdir(exist_ok=True)
    with (
        ours.running(
            pool={"workers": 2, "standby": 1},
            recycle={"max_requests": life, "max_requests_jitter": 0},
            outbox={"originals": "delete"},
            log={"format": "json", "level": "error"},
        ) as daemon,
        Client(daemon.endpoint) as client,
        (report.RESULTS / "endurance.jsonl").open("w") as file,
    ):
        samples = endure(daemon, client, jobs, file)
        ours.until(lambda: ours.full(daemon), 30)
        time.sleep(3)
        body["left_over"] = daemon.leftovers()
        body["at_rest"] = sample(daemon, jobs, samples[-1]["recycles"], time.monotonic())
    body["samples"] = samples
    report.write("endurance", body)
    first, last = samples[0], samples[-1]
    head = ["", "rss_mib", "peak_mib", "fds", "threads", "children", "zombies", "recycles"]
    named = {f"after {one['jobs']} jobs": one for one in (first, samples[len(samples) // 2], last)}
    named["at rest"] = body["at_rest"]
    report.table(
        head,
        ([name, *(one[key] for key in head[1:])] for name, one in named.items()),
    )
    print(f"growth after the first {first['jobs']}: {last['rss_mib'] - first['rss_mib']:.2f} MiB;")
    print(f"{jobs / last['seconds']:.0f} jobs/s; left over: {body['left_over'] or 'nothing'}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
