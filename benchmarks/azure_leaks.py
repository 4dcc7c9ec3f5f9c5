"""200 jobs in one worker, recycling off: what is left of them in objects, threads, memory.

    python benchmarks/azure_leaks.py [JOBS] [SECONDS] > azure_leaks.json

Against the local Speech service in a process of its own; the SDK is the real one. Beside the
engine, a script as the SDK's samples write it (futures unresolved, nothing taken down) for
comparison. Prints one JSON object; figures of memory are bytes.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.speech_service.behaviour import Behaviour, Settings
from tests.speech_service.running import separate_service

HERE = Path(__file__).parent
FAULTS = {
    "none": Behaviour(),
    "429": Behaviour(status=429),
    "401": Behaviour(status=401),
    "close 1002": Behaviour(close_at_s=1.0, close_code=1002),
    "dropped": Behaviour(drop_at_s=1.0),
    "silent": Behaviour(silent_from_s=1.0),
    "never ends a turn": Behaviour(turn_end=False),
    "phrase status Error": Behaviour(phrase_status="Error"),
}


def life(script: str, host: str, jobs: int, seconds: float, fault: str) -> dict[str, Any]:
    """One worker's life; the figures at the 10th and the last job, and how it ended."""
    done = subprocess.run(
        [sys.executable, str(HERE / script), host, str(jobs), str(seconds), fault],
        env=os.environ | {"PYTHONPATH": str(HERE.parent), "MALLOC_ARENA_MAX": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    early, last = lines[min(9, len(lines) - 1)], lines[-1]
    return {
        "script": script,
        "fault": fault,
        "jobs": len(lines),
        "exit": done.returncode,
        "at_10": early,
        "at_end": last,
        "rss_growth": last["rss"] - early["rss"],
        "every_job_back_to_baseline": all(
            line[key] <= early[key] for line in lines for key in ("objects", "threads", "fds")
        ),
        "rss": [line["rss"] for line in lines],
    }


def main(jobs: int = 200, seconds: float = 3.0) -> None:
    lives = []
    for fault, behaviour in FAULTS.items():
        count = jobs if fault == "none" else jobs // 5
        with separate_service(Settings(plan=(behaviour,))) as service:
            lives.append(life("azure_worker.py", service.host, count, seconds, fault))
    with separate_service(Settings()) as service:
        lives.append(life("azure_bare.py", service.host, jobs // 2, seconds, "none"))
    report = {
        "sdk": version("azure-cognitiveservices-speech"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "recording_s": seconds,
        "lives": lives,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:2]), *(float(a) for a in sys.argv[2:3]))
