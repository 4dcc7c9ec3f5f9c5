"""The leaking job in a process that circus watches, its resource_watcher looking every 20 ms.

circus knows no jobs: the process takes its job from a file, which it removes when it is done, so
that its successor finds it again. There is one, for circus restarts all processes of a watcher.
Best setting: no grace, no delays, no count of hits to wait for, and none of the other limits that
are on unless told otherwise (90 % of a CPU would be one). Looking every 20 ms takes a tenth of a
core, every 10 ms a fifth.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.peers import work
from benchmarks.peers.line import Line

ROOT = Path(__file__).resolve().parents[2]
INI = """
[circus]
endpoint = ipc://{home}/endpoint
pubsub_endpoint = ipc://{home}/pubsub
check_delay = 0.02
statsd = False
loglevel = warning

[watcher:job]
cmd = {python} -m benchmarks.peers.leak_circus {home}/job
working_dir = {root}
copy_env = True
numprocesses = 1
graceful_timeout = 0
warmup_delay = 0
max_retry = -1

[plugin:ceiling]
use = circus.plugins.resource_watcher.ResourceWatcher
watcher = job
loop_rate = 0.02
max_mem = {ceiling}M
max_count = 0
max_cpu = 0
health_threshold = 0
"""


def take_jobs(job: Path) -> None:
    """The watched process."""
    work.load_sdk()
    job.with_name("ready").touch()
    while True:
        if job.exists():
            case = json.loads(job.read_text())
            work.leak(**case)
            job.unlink()
        time.sleep(0.001)


def main() -> None:
    """Serve `leak`."""
    line = Line()
    with tempfile.TemporaryDirectory(prefix="sttd-circus") as folder:
        home = Path(folder)
        ini = home / "circus.ini"
        text = INI.format(home=home, python=sys.executable, root=ROOT, ceiling=sys.argv[1])
        ini.write_text(text)
        circusd = [sys.executable, "-m", "circus.circusd", str(ini)]
        process = subprocess.Popen(circusd, cwd=ROOT, stdin=subprocess.DEVNULL)
        job = home / "job"

        def ready() -> None:
            wait(home / "ready", there=True)
            time.sleep(0.1)  # some rounds of the watcher: it must see the young process

        def leak(**case: object) -> str:
            (home / "ready").unlink()
            part = home / "job.part"
            part.write_text(json.dumps(case))
            part.rename(job)
            wait(job, there=False)
            ready()
            return "done"

        try:
            ready()
            line.serve({"leak": leak}, "circus", "psutil", "pyzmq")
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


def wait(path: Path, *, there: bool) -> None:
    """Until it is there, or no more."""
    end = time.monotonic() + 40
    while path.exists() is not there:
        if time.monotonic() > end:
            raise TimeoutError(f"{path} does not {'appear' if there else 'go'}")
        time.sleep(0.005)


if __name__ == "__main__":
    take_jobs(Path(sys.argv[1]))
