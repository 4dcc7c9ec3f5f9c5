"""The allocator in a worker: glibc with 1, 2, 4 or its own number of arenas, and jemalloc.

    python -m benchmarks.allocator [JOBS] [ROUNDS] > benchmarks/results/allocator.json

Two loads in one worker's life, no recycling, every variant in turn in each round so that the
machine's other work falls on all alike: the Azure engine against the local Speech service, whose
SDK starts threads for every session (3 s of audio a job, trimmed after each as the engine does),
and threads that allocate and free small blocks, trimmed after each job as a worker does.
CPU is the worker's own, user and system.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sttd import linux
from sttd.config.allocators import MissingAllocatorError, environment, preload
from sttd.config.sections import Pool
from sttd.worker.tidy import rss_bytes
from tests.speech_service.behaviour import Settings
from tests.speech_service.running import separate_service

HERE = Path(__file__).parent
SECONDS = 3.0  # of audio in a job
EARLY = 10  # the job from which growth is counted: what a process needs once is no leak
THREADS, BLOCKS, SIZES = 8, 1500, (600, 3000, 20000, 70000)


def variants() -> dict[str, Pool]:
    """Name of a variant to its settings; jemalloc only where it is installed."""
    found = {f"{n} arenas" if n > 1 else "1 arena": Pool(malloc_arena_max=n) for n in (1, 2, 4)}
    found["unset"] = Pool(malloc_arena_max=0)
    try:
        preload("jemalloc")
    except MissingAllocatorError as error:
        sys.stderr.write(f"left out: {error}\n")
    else:
        found["jemalloc"] = Pool(allocator="jemalloc")
    return found


def azure(pool: Pool, host: str, jobs: int) -> dict[str, Any]:
    """One life of the Azure engine."""
    script = [str(HERE / "azure_worker.py"), host, str(jobs), str(SECONDS), "none"]
    return measured(script, pool)


def threads(pool: Pool, jobs: int) -> dict[str, Any]:
    """One life of threads that come, allocate and go."""
    return measured(["-m", "benchmarks.allocator", "--threads", str(jobs)], pool)


def measured(arguments: list[str], pool: Pool) -> dict[str, Any]:
    """Run a life of jobs, each of which prints a line with its `rss`, and reckon it up."""
    base = {k: v for k, v in os.environ.items() if k not in ("MALLOC_ARENA_MAX", "LD_PRELOAD")}
    env = environment(base | {"PYTHONPATH": str(HERE.parent)}, pool, print)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], env=env, stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rss = [json.loads(line)["rss"] for line in done.stdout.splitlines()]
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rss_first": rss[0],
        "rss_last": rss[-1],
        "rss_growth": rss[-1] - rss[min(EARLY, len(rss)) - 1],
        "cpu_s_per_job": used / len(rss),
        "rss": rss,
    }


def life_of_threads(jobs: int) -> None:
    """In a process of its own: allocate in several threads at once, let most of it go, trim."""
    kept: list[object] = []

    def allocate(number: int) -> None:
        blocks = [bytes(SIZES[(i + number) % len(SIZES)]) for i in range(BLOCKS)]
        kept.append(blocks[number])  # one block of many holds its arena up

    for _ in range(jobs):
        crowd = [threading.Thread(target=allocate, args=(n,)) for n in range(THREADS)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        linux.malloc_trim()
        sys.stdout.write(json.dumps({"rss": rss_bytes()}) + "\n")


def summary(lives: list[dict[str, Any]]) -> dict[str, float]:
    """The medians over the rounds; MiB and milliseconds."""
    return {
        "rss_last_mib": round(statistics.median(x["rss_last"] for x in lives) / 2**20, 2),
        "rss_growth_mib": round(statistics.median(x["rss_growth"] for x in lives) / 2**20, 2),
        "cpu_ms_per_job": round(statistics.median(x["cpu_s_per_job"] for x in lives) * 1e3, 1),
    }


def main(jobs: int = 100, rounds: int = 3) -> None:
    found = variants()
    lives: dict[str, dict[str, list[dict[str, Any]]]] = {"azure": {}, "threads": {}}
    with separate_service(Settings()) as service:
        for _ in range(rounds):
            for name, pool in found.items():
                lives["azure"].setdefault(name, []).append(azure(pool, service.host, jobs))
                lives["threads"].setdefault(name, []).append(threads(pool, jobs))
    report = {
        "sdk": version("azure-cognitiveservices-speech"),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "load": os.getloadavg(),
        "jobs": jobs,
        "rounds": rounds,
        "recording_s": SECONDS,
        "summary": {
            load: {name: summary(each) for name, each in of.items()} for load, of in lives.items()
        },
        "lives": lives,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--threads"]:
        life_of_threads(int(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:]))
