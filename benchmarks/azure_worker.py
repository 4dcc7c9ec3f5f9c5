"""A worker's life, measured: N jobs of the Azure engine in one process, and what is left of each.

    python benchmarks/azure_worker.py HOST COUNT SECONDS FAULT [STALL]

Runs COUNT jobs against the service at HOST, none of them recycled, and prints a line of JSON after
each: live SDK objects, threads, descriptors, RSS. Used by azure_leaks.py and by the leak tests.
FAULT names what the service is scripted to do, for the record only; STALL is `stall_timeout`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping

from sttd.engines import EngineError
from tests.support.azure import Recording, engine_for, holdings, transcribe

GOING_S = 1.0  # a detached thread of the SDK's may still be on its way out


def left(threads: int) -> Mapping[str, int]:
    """What is held, once there are no more threads than before; or after GOING_S all the same."""
    end = time.monotonic() + GOING_S
    while (held := holdings())["threads"] > threads and time.monotonic() < end:
        time.sleep(0.005)
    return held


def main(host: str, count: int, seconds: float, fault: str, stall_s: float = 0.3) -> None:
    engine = engine_for(host, stall_timeout=stall_s)
    threads = holdings()["threads"]
    for number in range(1, count + 1):
        outcome = "done"
        try:
            transcribe(engine, Recording(seconds))
        except EngineError as error:
            outcome = type(error).__name__
        line = {"job": number, "fault": fault, "outcome": outcome, **left(threads)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    os._exit(0)  # as a worker ends: nothing native is torn down at the interpreter's exit


if __name__ == "__main__":
    main(
        *sys.argv[1:2], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], *map(float, sys.argv[5:])
    )
