"""Many sessions at once, each in a worker of its own forked from one template.

    python benchmarks/azure_sessions.py [SESSIONS] [SECONDS] > azure_sessions.json

At the SDK's own pace (twice real time) against the local Speech service in a process of its own.
Says whether any was dropped or came out incomplete, the PSS of a worker half-way, and the CPU a
session costs: user and system seconds of the worker for each second of audio.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

from sttd.engines.azure import AzureEngine
from tests.speech_service.behaviour import Settings
from tests.speech_service.running import separate_service
from tests.support.azure import Recording, engine_for, transcribe, whole

MIB = 1 << 20


def start_worker(engine: AzureEngine, seconds: float) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = 0 if whole(transcribe(engine, Recording(seconds)), seconds) else 2
    finally:
        os._exit(code)


def pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise LookupError(pid)


def main(sessions: int = 32, seconds: float = 60.0) -> None:
    with separate_service(Settings()) as service:
        engine = engine_for(service.host, hurry=False, stall_timeout=50.0)
        gc.collect()
        gc.freeze()
        started = time.monotonic()
        workers = [start_worker(engine, seconds) for _ in range(sessions)]
        time.sleep(seconds / 4)
        pss = [pss_bytes(pid) for pid in workers]
        ends = [os.wait4(pid, 0) for pid in workers]
        wall = time.monotonic() - started
        counters = service.counters()
    cpu = [usage.ru_utime + usage.ru_stime for _, _, usage in ends]
    report = {
        "sdk": version("azure-cognitiveservices-speech"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "sessions": sessions,
        "recording_s": seconds,
        "wall_s": round(wall, 2),
        "complete": sum(os.waitstatus_to_exitcode(status) == 0 for _, status, _ in ends),
        "connections": counters.upgrades,
        "most_at_once": counters.peak,
        "dropped": counters.upgrades - sessions,
        "sent_bytes_beyond_the_recordings": counters.audio_bytes - int(sessions * seconds * 32000),
        "pss_mib_median": round(statistics.median(pss) / MIB, 2),
        "pss_mib_most": round(max(pss) / MIB, 2),
        "cpu_s_median": round(statistics.median(cpu), 3),
        "cpu_s_most": round(max(cpu), 3),
        "cpu_s_per_audio_s": round(statistics.median(cpu) / seconds, 5),
        "sessions_a_core_carries": round(wall / statistics.mean(cpu), 1),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:2]), *(float(a) for a in sys.argv[2:3]))
