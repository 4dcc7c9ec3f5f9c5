"""The service goes away in mid-flight for a while, with many jobs running; what is sent twice.

    python benchmarks/azure_restart.py [JOBS] [SECONDS] [AWAY_S] > azure_restart.json

A worker whose attempt ends goes on from its last segment after a pause, as sttd does. The
service's own counter tells how much audio it was sent.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from importlib.metadata import version

from sttd.engines import EngineError, Segment
from sttd.engines.azure import AzureEngine
from tests.speech_service.counters import Counters
from tests.speech_service.running import running_service
from tests.support.azure import Recording, engine_for, transcribe, whole

PAUSE_S = 0.5
PHRASE_S = 2.0  # of the local service
ALLOWED_S = 10.0


def start_worker(engine: AzureEngine, seconds: float, number: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        time.sleep(number * 0.05)
        segments: list[Segment] = []
        while True:
            start_s = segments[-1].end_s if segments else 0.0
            try:
                transcribe(engine, Recording(seconds, start_s=start_s), into=segments)
                break
            except EngineError:
                time.sleep(PAUSE_S)
        code = 0 if whole(segments, seconds) else 2
    finally:
        os._exit(code)


def main(jobs: int = 16, seconds: float = 40.0, away_s: float = 3.0) -> None:
    template, host_end = os.pipe()
    keeper = os.fork()  # forks the workers: this process is about to have threads
    if not keeper:
        os.close(host_end)
        with open(template, encoding="ascii") as host:
            engine = engine_for(host.readline().strip(), hurry=False)
        gc.freeze()
        workers = [start_worker(engine, seconds, number) for number in range(jobs)]
        ends = [os.waitpid(pid, 0)[1] for pid in workers]
        os._exit(sum(end != 0 for end in ends))
    os.close(template)
    with running_service() as service:
        os.write(host_end, f"{service.host}\n".encode())
        service.wait_until(lambda counters: counters.now == jobs, 60)
        time.sleep(seconds / 5)
        service.stop_listening()
        time.sleep(away_s)
        service.listen_again()
        _, status = os.waitpid(keeper, 0)
        counters: Counters = service.counters
    twice = counters.audio_bytes / 32_000 - jobs * seconds
    report = {
        "sdk": version("azure-cognitiveservices-speech"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "jobs": jobs,
        "recording_s": seconds,
        "away_s": away_s,
        "not_whole": os.waitstatus_to_exitcode(status),
        "sent_twice_s_per_job": round(twice / jobs, 2),
        "allowed_s_per_job": PHRASE_S + ALLOWED_S,
        "connections": counters.upgrades,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:2]), *(float(a) for a in sys.argv[2:4]))
