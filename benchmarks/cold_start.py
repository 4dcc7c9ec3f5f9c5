"""`sttctl status --json` from nothing to its answer, beside `python -c 'import zmq'`.

    python -m benchmarks.cold_start [REPETITIONS]

A real daemon with two workers answers. The commands take turns, each in a fresh process of the
same interpreter; measured are wall-clock time from fork to exit, and CPU (user and system) of the
process. Raw results: benchmarks/results/cold_start.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from benchmarks.support import report
from tests.support.daemon import daemon

SCRIPT = Path(sysconfig.get_path("scripts")) / "sttctl"
WARMING = 3  # rounds until files are in the page cache
TO_REACH = 2.5


def once(command: list[str], environ: dict[str, str]) -> dict[str, float]:
    """Seconds of one run; it must succeed."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return {"wall_s": round(wall, 5), "cpu_s": round(usage.ru_utime + usage.ru_stime, 5)}


def main(repetitions: int = 60) -> None:
    """Measure, write and print."""
    taken: dict[str, list[dict[str, float]]] = {}
    where = report.setting()
    with daemon(pool={"workers": 2}) as sttd:
        sttd.start()
        sttd.until("worker.ready", 3)
        environ = {**os.environ, "STTD_SOCKET": sttd.endpoint}
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import zmq'": [sys.executable, "-c", "import zmq"],
            "sttctl status --json": [str(SCRIPT), "status", "--json"],
        }
        for round_ in range(-WARMING, repetitions):
            for name, command in commands.items():
                run = once(command, environ)
                if round_ >= 0:
                    taken.setdefault(name, []).append(run)
        sttd.stop()
    ours, base = taken["sttctl status --json"], taken["python -c 'import zmq'"]
    ratios = {
        measure: report.p50([run[measure] for run in ours])
        / report.p50([run[measure] for run in base])
        for measure in ("wall_s", "cpu_s")
    }
    report.write(
        "cold_start",
        {"setting": where, "to_reach": TO_REACH, "ratio_of_medians": ratios, "runs": taken},
    )
    report.table(
        ["command", "wall p50 ms", "wall p99 ms", "CPU p50 ms", "CPU p99 ms"],
        [
            [name, *(f"{1000 * of([run[measure] for run in runs]):.1f}"
                     for measure in ("wall_s", "cpu_s") for of in (report.p50, report.p99))]
            for name, runs in taken.items()
        ],
    )  # fmt: skip
    print(f"\nover import zmq: wall {ratios['wall_s']:.2f}, CPU {ratios['cpu_s']:.2f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
