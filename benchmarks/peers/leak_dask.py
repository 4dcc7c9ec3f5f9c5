"""The leaking job as a task of dask, whose nannies kill workers at a ceiling.

Best setting: two workers, so that the second takes the task again at once; memory looked at every
5 ms instead of 100, as sttd does close to a ceiling (with two workers that takes 5 % of a core, and
11 % every 2 ms); workers forked from a server that has imported dask; no pausing or spilling,
which sttd does not have either.
"""

from __future__ import annotations

import sys

import dask
from distributed import Client, LocalCluster

from benchmarks.peers import work
from benchmarks.peers.line import Line


def main() -> None:
    """Serve `leak`."""
    line = Line()
    dask.config.set(
        {
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": False,
            "distributed.worker.memory.terminate": 1.0,
            "distributed.worker.memory.monitor-interval": "5ms",
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.scheduler.allowed-failures": 1000,
        }
    )
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=f"{sys.argv[1]}MiB",
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):

        def ready() -> None:
            client.wait_for_workers(2, timeout=30)
            client.run(work.load_sdk)

        def leak(**case: object) -> str:
            client.submit(work.leak, **case, pure=False).result(timeout=40)
            ready()
            return "done"

        ready()
        line.serve({"leak": leak}, "distributed", "dask")
