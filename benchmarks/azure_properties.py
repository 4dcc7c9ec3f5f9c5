"""What two undocumented properties of the Speech SDK do to the CPU of a session.

    python -m benchmarks.azure_properties [REPETITIONS] > benchmarks/results/azure_properties.json

The bare SDK, 30 s of audio at its own pace against the local service in a process of its own, the
variants in turn: milliseconds between two looks at the connection, bytes of audio in a message.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import azure.cognitiveservices.speech as sdk

from benchmarks.azure_whole_job import write_wav
from tests.speech_service.behaviour import Settings
from tests.speech_service.running import separate_service

SECONDS = 30.0
VARIANTS = ((10, 3_200), (40, 3_200), (40, 6_400), (100, 3_200), (100, 6_400), (200, 6_400))


def session(host: str, recording: Path, poll_ms: int, frame_bytes: int) -> tuple[float, float]:
    """Wall and CPU seconds."""
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    config = sdk.SpeechConfig(host=host)
    config.request_word_level_timestamps()
    config.set_property_by_name("SPEECH-USPRunPollingInterval", str(poll_ms))
    config.set_property_by_name("SPEECH-BytesPerFrame", str(frame_bytes))
    audio = sdk.audio.AudioConfig(filename=str(recording))
    transcriber = sdk.transcription.ConversationTranscriber(config, audio, language="en-US")
    texts: list[str] = []
    over = threading.Event()
    transcriber.transcribed.connect(lambda event: texts.append(event.result.json))
    transcriber.session_stopped.connect(lambda _: over.set())
    transcriber.start_transcribing_async().get()
    over.wait()
    transcriber.stop_transcribing_async().get()
    assert len(texts) == SECONDS / 2  # a phrase every two seconds
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, cpu_s


def main(repetitions: int = 7) -> None:
    runs: dict[tuple[int, int], list[tuple[float, float]]] = {one: [] for one in VARIANTS}
    with tempfile.TemporaryDirectory() as home, separate_service(Settings()) as service:
        recording = Path(home, "recording.wav")
        write_wav(recording, SECONDS)
        session(service.host, recording, *VARIANTS[0])  # whatever is made once
        for _ in range(repetitions):
            for variant, measured in runs.items():
                measured.append(session(service.host, recording, *variant))
    variants: list[dict[str, Any]] = [
        {
            "poll_ms": poll_ms,
            "frame_bytes": frame_bytes,
            "wall_s": round(statistics.median(wall for wall, _ in measured), 3),
            "cpu_s": round(statistics.median(cpu for _, cpu in measured), 4),
            "runs": measured,
        }
        for (poll_ms, frame_bytes), measured in runs.items()
    ]
    report = {
        "sdk": version("azure-cognitiveservices-speech"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "recording_s": SECONDS,
        "variants": variants,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:2]))
