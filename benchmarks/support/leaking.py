"""The contestants of `overshoot`: whoever runs a job that leaks and kills it at a ceiling.

All leak from the same size on (`start_mb` of RSS), however big their processes are when idle.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from benchmarks.support import ours
from benchmarks.support.peer import Peer, peer
from sttd.client import Client
from tests.support.daemon import Daemon

MIB = 1 << 20
CEILING_MB = 400
MOST_MB = 3000  # what a job leaks at most before it ends by itself


class System(NamedTuple):
    """How a contestant is set up and asked."""

    setting: str
    period_s: float  # of its looks at memory: a leak begins anywhere within one
    share: float  # of the repetitions at the rates other than 200 MB/s; kills may take seconds


SYSTEMS = {
    "sttd": System(
        "defaults but for rss_ceiling = 400MiB; one worker, one standby, backoff 0", 0.25, 1.0
    ),
    "dask": System(
        "Nanny, monitor-interval 5 ms (default 100), terminate at 400 MiB, no pause or spill, "
        "forkserver, two workers",
        0.005,
        0.34,
    ),
    "circus": System(
        "resource_watcher, loop_rate 0.02 s (default 60), max_count 0, no other limits, "
        "graceful_timeout 0; one process, for it restarts all of a watcher, and no jobs: the "
        "next try is the next process's",
        0.02,
        0.2,
    ),
    "uwsgi": System(
        "evil-reload-on-rss 400, mem-collector-freq 1 (the least), two processes forked with the "
        "SDK loaded; the client tries again at once",
        1.0,
        0.2,
    ),
    "granian": System(
        "workers-max-rss 400, rss-sample-interval 1 (the least), respawn-interval 0, "
        "workers-kill-timeout 1 (the least), two workers; the client tries again at once",
        1.0,
        0.2,
    ),
}


class Contestant(Protocol):
    """Runs one leaking job; `settle` waits until it could take the next."""

    pid: int

    def leak(self, trace: Path, marker: Path, rate: int, start_mb: int) -> None:
        """Start it."""

    def settle(self) -> dict[str, Any]:
        """Wait until all is as before; what it says of itself."""


class Ours:
    """sttd."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.pid = daemon.pid
        self.client = Client(daemon.endpoint)
        self.job = Path()
        self.count = 0
        # a worker that dies in its first job counts as one that cannot start, so it gets another
        warm = ours.drop(daemon, "warm")
        ours.until(warm.exists, 20)

    def leak(self, trace: Path, marker: Path, rate: int, start_mb: int) -> None:
        self.count += 1
        size = ours.until(self._idle_bytes, 20)
        self.job = ours.drop(
            self.daemon,
            f"leak-{self.count}",
            {
                "leak_mb": max(0, start_mb - size // MIB),
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

    def _idle_bytes(self) -> int:
        """RSS of the idle worker; 0 until its memory was looked at."""
        workers = self.client.workers()
        return next((one.rss_bytes for one in workers if one.state == "idle"), 0)

    def _assigned_ns(self) -> int:
        """When the job was given to its last worker: wall clock, of a millisecond's precision."""
        last = self.daemon.events("job.started")[-1]
        return round(dt.datetime.fromisoformat(last["timestamp"]).timestamp() * 1e9)


class Theirs:
    """A peer."""

    def __init__(self, process: Peer) -> None:
        self.process = process
        self.pid = process.process.pid

    def leak(self, trace: Path, marker: Path, rate: int, start_mb: int) -> None:
        case: Mapping[str, object] = {"rate": rate, "start": start_mb, "most": MOST_MB}
        self.process.send(do="leak", trace=str(trace), marker=str(marker), **case)

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
