"""CPU of an idle supervisor in a share of a core: `python -m benchmarks.idle [WORKERS] [S]`.

Prints one JSON object. The daemon is real, the engine is `drill`, nothing is submitted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from tests.support.daemon import daemon

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main(workers: int = 8, seconds: float = 20.0) -> None:
    """Start, wait until all are ready, measure."""
    with daemon(pool={"workers": workers}) as sttd:
        sttd.start()
        sttd.until("worker.ready", workers + 1)
        time.sleep(2)
        before = cpu_s(sttd.pid)
        time.sleep(seconds)
        share = (cpu_s(sttd.pid) - before) / seconds
        rss = int(Path(f"/proc/{sttd.pid}/statm").read_text().split()[1])
        sttd.stop()
    print(
        json.dumps(
            {
                "workers": workers,
                "seconds": seconds,
                "cpu_percent_of_a_core": round(100 * share, 2),
                "rss_mib": round(rss * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
                "load": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
