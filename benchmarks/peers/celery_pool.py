"""Celery with a Redis of its own on a Unix socket: `celery_pool TASKS [MAX_KIB]`, 0 for none.

Redis keeps nothing on disk, which is its fastest; workers are forked with the Speech SDK loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.line import Line
from benchmarks.peers.replaced import Replaced

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Redis overwrites its environment, so nobody would find it by its mark when we are killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start_redis(home: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Debian's redis-server, or whatever is on the path."""
    server = shutil.which("redis-server")
    if server is None:
        raise FileNotFoundError("there is no redis-server (Debian: apt install redis-server)")
    sock = home / "redis.sock"
    process = subprocess.Popen(
        [server, "--port", "0", "--unixsocket", str(sock), "--save", "", "--appendonly", "no"],
        cwd=home,
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread is there yet
    )
    end = time.monotonic() + 10
    while not sock.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return process, sock


def start_worker(home: Path, tasks: int, kib: int) -> subprocess.Popen[bytes]:
    """A Celery worker with two processes."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_tasks", "worker"]
    command += ["--pool=prefork", f"--concurrency={WORKERS}", "-O", "fair", "--loglevel=ERROR"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command += [f"--max-tasks-per-child={tasks}"] if tasks else []
    command += [f"--max-memory-per-child={kib}"] if kib else []
    command += [f"--pidfile={home}/pid"]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)


def main() -> None:
    """Serve rounds of jobs."""
    line = Line()
    tasks, kib = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory(prefix="sttd-celery") as folder:
        redis, sock = start_redis(Path(folder))
        os.environ["STTD_BENCHMARK_REDIS"] = str(sock)
        worker = start_worker(Path(folder), tasks, kib)
        try:
            _serve(line)
        finally:
            for process in (worker, redis):
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)


def _serve(line: Line) -> None:
    from benchmarks.peers import celery_tasks  # noqa: PLC0415 - reads what `main` sets

    def run(task: Any, argument: float, jobs: int) -> list[int]:
        # one by one: the results of a `group` are looked for twice a second only
        results = [task.delay(argument) for _ in range(jobs)]
        return [result.get(timeout=60) for result in results]

    def burn(jobs: int, ms: float) -> dict[str, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        pids = run(celery_tasks.burn, ms, jobs)
        return {
            "wall_s": time.perf_counter() - began,
            "client_cpu_s": time.process_time() - cpu,
            "recycles": replaced.count(pids),
        }

    def spikes(jobs: int, megabytes: float) -> dict[str, Any]:
        return {"recycles": replaced.count(run(celery_tasks.spike, megabytes, jobs))}

    def rest(seconds: float) -> list[int]:
        return run(celery_tasks.rest, seconds, WORKERS)

    replaced = Replaced(WORKERS, lambda: run(celery_tasks.burn, 20.0, 2 * WORKERS))
    line.serve({"burn": burn, "spikes": spikes, "rest": rest}, "celery", "billiard", "redis")
