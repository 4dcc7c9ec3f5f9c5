"""What must be none: `python -m benchmarks.false_recycles [--repetitions N] [--peers N]`.

False recycles: jobs that hold 350 MB for 50 ms and give it back, under a soft limit of 100 MiB
(loky's own rule is 300 MB of growth and cannot be set). Orphans: what is alive 3 s after the
supervisor of two busy workers got SIGKILL, their jobs having a minute to go; of sttd also in the
midst of replacing workers. Replaced at once: how many workers there are at most, while each is
replaced after every job, beyond the configured ones, the standby and one more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.support import ours, report
from benchmarks.support.peer import Peer, installed, kill_marked, peer
from sttd.client import Client
from tests.support.daemon import Daemon, daemon

SOFT_MIB = 100
SPIKE_MB = 350
SPIKE_S = 0.05
JOBS = 10
WORKERS, STANDBY = 2, 1
REST_S = 60.0
DEAD_WITHIN_S = 3.0
REPLACING_S = 0.5  # for which the jobs last at least
REPLACING = "sttd, replacing workers"

CELERY = "celery"
POOLS = {
    "pebble, forkserver": ("pools", "pebble", "forkserver", "0"),
    "mp.Pool, spawn": ("pools", "mp", "spawn", "0"),
    "futures, spawn": ("pools", "futures", "spawn", "0"),
    "loky": ("pools", "loky", "spawn", "0"),
    CELERY: ("celery_pool", "0"),
}
SPIKED = {
    "loky": ("pools", "loky", "spawn", "0"),
    CELERY: ("celery_pool", "0", str(SOFT_MIB * 1024)),
}


# -- false recycles ----------------------------------------------------------------------------
def our_spikes(rounds: int) -> list[int]:
    """Workers recycled in each round."""
    options = {"spike_mb": SPIKE_MB, "spike_s": SPIKE_S}
    found = []
    with ours.running(
        pool={"workers": WORKERS, "standby": STANDBY},
        recycle={"rss_soft": f"{SOFT_MIB}MiB", "rss_ceiling": "1GiB"},
    ) as one:
        for number in range(rounds):
            before = recycles(one)
            names = [f"s{number}/{job}" for job in range(JOBS)]
            outputs = [ours.drop(one, name, options) for name in names]
            wait_for(outputs)
            found.append(recycles(one) - before)
    return found


def wait_for(outputs: list[Path]) -> None:
    """Until all are there."""
    ours.until(lambda: all(output.exists() for output in outputs), 60)


def recycles(one: Daemon) -> int:
    """Of all reasons so far."""
    with Client(one.endpoint) as client:
        return sum(msgspec.structs.astuple(client.status().recycles))


def their_spikes(module: tuple[str, ...], rounds: int, versions: dict[str, str]) -> list[int]:
    """Workers recycled in each round."""
    with peer(*module) as process:
        versions.update(process.versions)
        return [
            int(process.ask(90, do="spikes", jobs=JOBS, megabytes=SPIKE_MB)["recycles"])
            for _ in range(rounds)
        ]


# -- orphans -----------------------------------------------------------------------------------
def alive(pids: list[int]) -> list[int]:
    """Those that live; zombies do not."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                found.append(pid)
    return found


def orphans(supervisor: int) -> dict[str, Any]:
    """Kill the supervisor; how many there were, how many are left in the end, and their names."""
    below = ours.tree(supervisor)[1:]
    os.kill(supervisor, signal.SIGKILL)
    end = time.monotonic() + DEAD_WITHIN_S
    while (left := alive(below)) and time.monotonic() < end:
        time.sleep(0.01)
    names = [name_of(pid) for pid in left]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return {"processes": len(below), "orphans": len(left), "names": names}


def name_of(pid: int) -> str:
    """As ps says it."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def our_orphans() -> dict[str, Any]:
    """Of a daemon with all its workers busy."""
    with daemon(**ours.settings(pool={"workers": WORKERS, "standby": STANDBY})) as one:
        one.start(wait=False)
        ours.until(lambda: ours.full(one), 60)
        for number in range(WORKERS):
            ours.drop(one, f"rest-{number}", {"sleep_s": REST_S})
        one.until("job.started", WORKERS)
        return orphans(one.pid)


def our_orphans_replacing() -> dict[str, Any]:
    """Of a daemon that replaces each worker after one job, at any moment of that."""
    with ours.running(
        pool={"workers": WORKERS, "standby": STANDBY},
        recycle={"max_requests": 1, "max_requests_jitter": 0},
    ) as one:
        for number in range(8 * JOBS):
            ours.drop(one, f"r{number}")
        one.until("job.started", WORKERS)
        time.sleep(random.uniform(0, REPLACING_S))
        return orphans(one.pid)


def their_orphans(name: str, versions: dict[str, str]) -> dict[str, Any]:
    """Of a pool with all its workers busy."""
    one = Peer(*POOLS[name])
    versions.update(one.versions)
    try:
        one.send(do="rest", seconds=REST_S)
        time.sleep(0.5)
        supervisor = one.process.pid
        if name == CELERY:
            supervisor = next(p for p in ours.tree(supervisor)[1:] if b"celery_tasks" in command(p))
        return orphans(supervisor)
    finally:
        kill_marked(one.mark)
        one.close()


def command(pid: int) -> bytes:
    """Its command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


# -- replaced at once --------------------------------------------------------------------------
def replaced_at_once(rounds: int) -> dict[str, Any]:
    """The most workers alive by the daemon's own events, and as seen in the process table."""
    with ours.running(
        pool={"workers": WORKERS, "standby": STANDBY},
        recycle={"max_requests": 1, "max_requests_jitter": 0},
    ) as one:
        seen = 0
        for number in range(rounds):
            outputs = [ours.drop(one, f"r{number}/{job}") for job in range(JOBS)]
            while not all(output.exists() for output in outputs):
                seen = max(seen, workers_in(one.pid))
                time.sleep(0.002)
        told = most_alive(one)
        total = recycles(one)
    most = WORKERS + STANDBY + 1
    return {
        "recycles": total,
        "most_by_events": told,
        "most_seen": seen,
        "beyond": max(0, told - most, seen - most),
    }


def workers_in(supervisor: int) -> int:
    """Living worker processes of a supervisor now."""
    text = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
    found = 0
    for pid in text.split():
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            found += "(sttd-w-" in stat and stat.rpartition(")")[2].split()[0] != "Z"
    return found


def most_alive(one: Daemon) -> int:
    """Between worker.spawned and worker.exited."""
    living: set[str] = set()
    most = 0
    for event in one.events("worker.spawned", "worker.exited"):
        if event["event"] == "worker.spawned":
            living.add(event["worker"])
        else:
            living.discard(event["worker"])
        most = max(most, len(living))
    return most


# -- all together ------------------------------------------------------------------------------
def attempt(work: Callable[..., Any], *args: object) -> Any:
    """What came of it, or what went wrong."""
    try:
        return work(*args)
    except Exception as error:  # noqa: BLE001 - a peer may fail in any way; it is kept
        report.say(f"  {error}")
        return {"failed": str(error)[-500:]}


def rows(body: dict[str, Any]) -> Iterator[list[object]]:
    """For the table."""
    for name, counts in body["false_recycles"].items():
        if isinstance(counts, list):
            jobs = len(counts) * JOBS
            yield ["false recycles", name, f"{jobs} jobs", sum(counts)]
    for name, found in body["orphans"].items():
        good = [one for one in found if "failed" not in one]
        left = sum(one["orphans"] for one in good)
        yield ["orphans", name, f"{len(good)} kills", f"{left / max(1, len(good)):.3g} a kill"]
    once = body["replaced_at_once"]
    yield ["replaced at once beyond one", "sttd", f"{once['recycles']} recycles", once["beyond"]]


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=30, help="for sttd")
    parser.add_argument("--peers", type=int, default=10, help="for each peer")
    options = parser.parse_args()
    left_out = set() if shutil.which("redis-server") else {CELERY}
    names = sorted(set(POOLS) - left_out) if installed() else []
    body: dict[str, Any] = report.setting()
    report.say("false recycles")
    body["false_recycles"] = {"sttd": our_spikes(options.repetitions)}
    for name in sorted(SPIKED.keys() & names):
        found = attempt(their_spikes, SPIKED[name], options.peers, body["versions"])
        body["false_recycles"][name] = found
    report.say("orphans")
    body["orphans"] = all_orphans(options.repetitions, names, options.peers, body["versions"])
    report.say("replaced at once")
    body["replaced_at_once"] = replaced_at_once(options.repetitions)
    report.write("false_recycles", body)
    report.table(["figure", "system", "over", "found"], rows(body))
    print(json.dumps(body["replaced_at_once"]))


def all_orphans(
    rounds: int, names: list[str], rounds_of_peers: int, versions: dict[str, str]
) -> dict[str, list[Any]]:
    """sttd and the others taking turns."""
    found: dict[str, list[Any]] = {name: [] for name in ("sttd", REPLACING, *names)}
    for number in range(rounds):
        found["sttd"].append(attempt(our_orphans))
        found[REPLACING].append(attempt(our_orphans_replacing))
        for name in names if number < rounds_of_peers else ():
            found[name].append(attempt(their_orphans, name, versions))
    return found


if __name__ == "__main__":
    main()
