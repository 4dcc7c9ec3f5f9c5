"""CPU of the supervisor alone: `python -m benchmarks.supervisor_cpu [WINDOWS] [SECONDS]`.

Eight workers and a standby are looked at; first nothing is submitted (idle), then eight jobs run
that say a segment every half a second each (busy), as sessions of a remote engine do. In windows
of some seconds, by the scheduler's nanoseconds of all the supervisor's threads; the templates and
workers are told apart. `idle.py` is the short form.
"""

from __future__ import annotations

import sys
import time
import wave
from pathlib import Path
from typing import Any

from benchmarks.support import ours, report
from tests.support.daemon import Daemon

WORKERS = 8
SEGMENT_S = 0.5
MIB = 1 << 20


def windows(daemon: Daemon, count: int, seconds: float) -> list[float]:
    """Percent of a core in each window."""
    found = []
    for _ in range(count):
        before, began = ours.cpu_ns(daemon.pid), time.monotonic_ns()
        time.sleep(seconds)
        found.append(100 * (ours.cpu_ns(daemon.pid) - before) / (time.monotonic_ns() - began))
    return found


def occupy(daemon: Daemon, seconds: float) -> None:
    """Give each worker a job that lasts so long."""
    recording = daemon.home / "long.wav"
    with wave.open(str(recording), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        for _ in range(round(seconds)):
            file.writeframes(bytes(32_000))
    options = {"sleep_s": seconds, "segments": round(seconds / SEGMENT_S)}
    for number in range(WORKERS):
        daemon.drop(f"long-{number}.wav", recording, {"options": options})
    daemon.until("job.started", WORKERS)
    time.sleep(3)


def rss_mib(pid: int) -> float:
    """Resident, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB


def main(count: int = 30, seconds: float = 3.0) -> None:
    """Measure, write, print."""
    body: dict[str, Any] = {**report.setting(), "workers": WORKERS, "window_s": seconds}
    with ours.running(pool={"workers": WORKERS, "standby": 1, "max_per_memory": False}) as daemon:
        time.sleep(3)
        body["idle_percent"] = windows(daemon, count, seconds)
        occupy(daemon, count * seconds + 60)
        body["busy_percent"] = windows(daemon, count, seconds)
        body["rss_mib"] = rss_mib(daemon.pid)
        daemon.kill()  # its jobs would go on for minutes
        report.write("supervisor_cpu", body)
        report.table(
            ["supervisor, 8 workers", "n", "p50 % of a core", "p99"],
            (
                [what, count, report.p50(body[key]), report.p99(body[key])]
                for what, key in (("idle", "idle_percent"), ("busy", "busy_percent"))
            ),
        )
        print(f"RSS {body['rss_mib']:.1f} MiB")


if __name__ == "__main__":
    main(
        *(int(argument) for argument in sys.argv[1:2]),
        *(float(argument) for argument in sys.argv[2:3]),
    )
