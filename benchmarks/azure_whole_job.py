"""A whole job through sttd, drop to transcript, over the bare SDK on the same recording.

    python benchmarks/azure_whole_job.py [REPETITIONS] [SECONDS] > azure_whole_job.json

Both at the SDK's own pace against the local Speech service in a process of its own, turn about. The
bare script has its imports behind it and reads the wav file itself; sttd has a worker that is ready
and `settle = 0`. CPU is that of all of sttd's processes together, and of the script, from start to
end of the recording's way; `over_idle` leaves out what the daemon costs in the same time without a
job. `tuned` is the same script with the two properties that make sttd's sessions cheaper, `POLL_MS`
and `FRAME_BYTES` of sttd.engines.azure.configuration: so what sttd adds and what it saves can be
told apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import wave
from importlib.metadata import version
from pathlib import Path

import psutil

from sttd.engines.azure.configuration import FRAME_BYTES, POLL_MS
from tests.speech_service.behaviour import Settings
from tests.speech_service.marks import marked_pcm
from tests.speech_service.running import separate_service
from tests.support.daemon import Daemon

BARE = "--bare"
TUNED = "tuned"


def bare(host: str, kind: str) -> None:
    """Transcribe each file named on standard input; a line of JSON for each: wall and CPU."""
    import azure.cognitiveservices.speech as sdk  # noqa: PLC0415  only in the script's process

    for name in sys.stdin:
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        config = sdk.SpeechConfig(host=host)
        config.request_word_level_timestamps()
        if kind == TUNED:
            config.set_property_by_name("SPEECH-USPRunPollingInterval", str(POLL_MS))
            config.set_property_by_name("SPEECH-BytesPerFrame", str(FRAME_BYTES))
        audio = sdk.audio.AudioConfig(filename=name.strip())
        transcriber = sdk.transcription.ConversationTranscriber(config, audio, language="en-US")
        texts: list[str] = []
        over = threading.Event()
        transcriber.transcribed.connect(lambda event, to=texts: to.append(event.result.json))
        transcriber.session_stopped.connect(lambda _, over=over: over.set())
        transcriber.start_transcribing_async().get()
        over.wait()
        transcriber.stop_transcribing_async().get()
        del transcriber, audio, config
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        line = {"wall_s": time.monotonic() - started, "cpu_s": cpu, "phrases": len(texts)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def cpu_of(pid: int) -> dict[str, float]:
    """CPU seconds of each of the daemon's processes so far, threads that are gone included."""
    root = psutil.Process(pid)
    seconds = {}
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(OSError):  # gone meanwhile
            clock = ~process.pid << 3 | 2  # clock_getcpuclockid(3): to the nanosecond
            seconds[str(process.pid)] = time.clock_gettime(clock)
    return seconds


def through_sttd(sttd: Daemon, recording: Path, name: str) -> dict[str, float]:
    """From the drop (a rename into the inbox) to the manifest."""
    staged = sttd.home / name
    shutil.copy(recording, staged)
    done = sttd.state / "outbox" / f"{staged.stem}.json"
    before, started = cpu_of(sttd.pid), time.monotonic()
    staged.rename(sttd.state / "inbox" / name)
    while not done.exists():
        time.sleep(0.002)
    wall = time.monotonic() - started
    time.sleep(0.5)  # what is tidied up afterwards is part of the price
    segments = json.loads(done.read_text())["segments"]
    after = cpu_of(sttd.pid)
    spent = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
    supervisor = spent.pop(str(sttd.pid))
    return {
        "wall_s": wall,
        "cpu_s": supervisor + sum(spent.values()),
        "cpu_supervisor_s": supervisor,
        "cpu_worker_s": max(spent.values()),
        "phrases": len(segments),
    }


def write_wav(path: Path, seconds: float) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(marked_pcm(seconds))


class Script:
    """A bare script, its imports behind it."""

    def __init__(self, host: str, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, BARE, host, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def transcribe(self, recording: Path) -> dict[str, float]:
        """Wall and CPU."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{recording}\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """No more recordings."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def main(repetitions: int = 5, seconds: float = 30.0) -> None:
    home = Path(tempfile.mkdtemp(prefix="sttd-bench-", dir="/tmp"))
    recording = home / "recording.wav"
    write_wav(recording, seconds)
    ours, theirs, tuned, idle = [], [], [], 0.0
    with separate_service(Settings()) as service:
        scripts = [Script(service.host, kind) for kind in ("as it is", TUNED)]
        sttd = Daemon(
            home,
            pool={"workers": 1, "standby": 1},
            engine={"name": "azure", "azure": {"host": service.host, "auth": "none"}},
        )
        try:
            sttd.start()
            warm = through_sttd(sttd, recording, "warm.wav")
            for script in scripts:
                script.transcribe(recording)  # as warm as sttd is
            before = sum(cpu_of(sttd.pid).values())
            time.sleep(warm["wall_s"])
            idle = sum(cpu_of(sttd.pid).values()) - before
            for number in range(repetitions):
                ours.append(through_sttd(sttd, recording, f"r{number}.wav"))
                theirs.append(scripts[0].transcribe(recording))
                tuned.append(scripts[1].transcribe(recording))
        finally:
            sttd.clean_up()
            for script in scripts:
                script.close()
            shutil.rmtree(home, ignore_errors=True)

    def middle(runs: list[dict[str, float]], key: str) -> float:
        return statistics.median(run[key] for run in runs)

    report = {
        "sdk": version("azure-cognitiveservices-speech"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "recording_s": seconds,
        "sttd": ours,
        "bare": theirs,
        "tuned": tuned,
        "wall_ratio": round(middle(ours, "wall_s") / middle(theirs, "wall_s"), 4),
        "cpu_idle_s": round(idle, 3),
        "cpu_ratio": round(middle(ours, "cpu_s") / middle(theirs, "cpu_s"), 3),
        "cpu_ratio_over_idle": round((middle(ours, "cpu_s") - idle) / middle(theirs, "cpu_s"), 3),
        "cpu_ratio_over_tuned": round(middle(ours, "cpu_s") / middle(tuned, "cpu_s"), 3),
        "wall_added_s": round(middle(ours, "wall_s") - middle(theirs, "wall_s"), 3),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == [BARE]:
        bare(sys.argv[2], sys.argv[3])
    else:
        main(*(int(a) for a in sys.argv[1:2]), *(float(a) for a in sys.argv[2:3]))
