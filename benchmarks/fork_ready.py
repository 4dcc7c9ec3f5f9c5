"""From the request for a worker to its first word: `python -m benchmarks.fork_ready [N]`.

With the Speech SDK loaded. sttd is asked to recycle one idle worker after the other and tells
itself how long each replacement took (`ready_s` of `worker.ready`: from the request to fork, both
the worker and its decoder, until its Ready was read). For multiprocessing the time from before
`Process(...)` until a byte has come back. Turn about, one start each.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from benchmarks.support import ours, report
from benchmarks.support.peer import installed, peer
from sttd.client import Client
from tests.support.daemon import Daemon

METHODS = ("spawn", "forkserver", "fork")
QUIET_S = 0.2  # between starts


def replace_one(daemon: Daemon, client: Client) -> float:
    """Recycle an idle worker; seconds until the fresh one was ready."""
    seen = len(daemon.events("worker.ready"))
    idle = next(worker.id for worker in client.workers() if worker.state == "idle")
    client.recycle(idle)
    ours.until(lambda: len(daemon.events("worker.ready")) > seen, 20)
    ours.until(lambda: ours.full(daemon), 20)
    return float(daemon.events("worker.ready")[-1]["ready_s"])


def main(repetitions: int = 50) -> None:
    """Measure, write, print."""
    body: dict[str, Any] = report.setting()
    found: dict[str, list[float]] = {"sttd": []}
    with contextlib.ExitStack() as stack:
        peers = {}
        for method in METHODS if installed() else ():
            peers[method] = stack.enter_context(peer("starting", method))
            found[method] = []
        daemon = stack.enter_context(ours.running(pool={"workers": 2, "standby": 1}))
        client = stack.enter_context(Client(daemon.endpoint))
        for _ in range(repetitions):
            time.sleep(QUIET_S)
            found["sttd"].append(replace_one(daemon, client))
            for method, one in peers.items():
                time.sleep(QUIET_S)
                found[method].append(one.ask(20, do="start"))
    body["seconds"] = found
    report.write("fork_ready", body)
    report.table(
        ["start", "n", "p50 ms", "p99 ms"],
        (
            [name, len(some), 1000 * report.p50(some), 1000 * report.p99(some)]
            for name, some in found.items()
        ),
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
