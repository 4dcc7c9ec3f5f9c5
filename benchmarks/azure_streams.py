"""CPU of one session by the way its audio goes in: file, push, the SDK's pull, sttd's pull.

    python benchmarks/azure_streams.py [ROUNDS] [SECONDS] > azure_streams.json

Each way has a process of its own that transcribes the same recording ROUNDS times at the SDK's own
pace, against the local Speech service. All ways run at the same time, so that whatever else the
machine does, it does to all of them. Whatever else a session costs is the same in each.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.speech_service.behaviour import Settings
from tests.speech_service.marks import marked_pcm
from tests.speech_service.running import separate_service
from tests.support.azure import CHUNK

WAYS = ("file", "push", "pull_sdk", "pull_sttd")


def opened(way: str, path: str, pcm: bytes) -> tuple[Any, Callable[[], None], dict[str, int]]:
    """An AudioConfig, what feeds it once the session has begun, and who counts the calls."""
    import azure.cognitiveservices.speech.audio as sdk  # noqa: PLC0415  only in a way's process

    calls = {"read": 0, "get_property": 0}
    if way == "file":
        return sdk.AudioConfig(filename=path), lambda: None, calls
    if way == "push":
        stream = sdk.PushAudioInputStream()

        def push() -> None:
            for at in range(0, len(pcm), CHUNK):
                stream.write(pcm[at : at + CHUNK])
            stream.close()

        return sdk.AudioConfig(stream=stream), push, calls
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        calls["read"] += 1
        part = pcm[at : at + size]
        at += len(part)
        return part

    if way == "pull_sttd":
        from sttd.engines.azure.pull import PullStream  # noqa: PLC0415  likewise

        return sdk.AudioConfig(stream=PullStream(read)), lambda: None, calls

    class Pull(sdk.PullAudioInputStreamCallback):  # type: ignore[misc]  # the SDK has no types
        def read(self, buffer: memoryview) -> int:
            part = read(len(buffer))
            buffer[: len(part)] = part
            return len(part)

        def get_property(self, _id: object) -> str:
            calls["get_property"] += 1
            return ""

    return sdk.AudioConfig(stream=sdk.PullAudioInputStream(Pull())), lambda: None, calls


def session(host: str, way: str, path: str, pcm: bytes) -> dict[str, Any]:
    """One session: CPU seconds of the process meanwhile, and the SDK's calls into Python."""
    import azure.cognitiveservices.speech as sdk  # noqa: PLC0415  likewise

    before = resource.getrusage(resource.RUSAGE_SELF)
    config = sdk.SpeechConfig(host=host)
    config.request_word_level_timestamps()
    audio, feed, calls = opened(way, path, pcm)
    transcriber = sdk.transcription.ConversationTranscriber(config, audio, language="en-US")
    texts: list[str] = []
    over = threading.Event()
    transcriber.transcribed.connect(lambda event: texts.append(event.result.json))
    transcriber.session_stopped.connect(lambda _: over.set())
    transcriber.start_transcribing_async().get()
    feed()
    over.wait()
    transcriber.stop_transcribing_async().get()
    del transcriber, audio, config
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": round(cpu, 4), "phrases": len(texts), **calls}


def main(rounds: int = 5, seconds: float = 30.0) -> None:
    with tempfile.TemporaryDirectory() as home, separate_service(Settings()) as service:
        path = Path(home) / "recording.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(marked_pcm(seconds))
        processes = {
            way: subprocess.Popen(
                [sys.executable, __file__, "--way", way, service.host, str(path), str(rounds)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for way in WAYS
        }
        found = {
            way: [json.loads(line) for line in process.communicate()[0].splitlines()]
            for way, process in processes.items()
        }
    middle = {way: statistics.median(s["cpu_s"] for s in found[way]) for way in WAYS}
    report = {
        "sdk": version("azure-cognitiveservices-speech"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "load": os.getloadavg(),
        "recording_s": seconds,
        "cpu_s": middle,
        "over_file": {way: round(middle[way] / middle["file"], 3) for way in WAYS},
        "sessions": found,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


def one_way(way: str, host: str, path: str, rounds: int) -> None:
    """In a process of its own: a line of JSON for each session but the first, which warms up."""
    with wave.open(path, "rb") as file:
        pcm = file.readframes(file.getnframes())
    for number in range(rounds + 1):
        line = session(host, way, path, pcm)
        if number:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        one_way(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        main(*(int(a) for a in sys.argv[1:2]), *(float(a) for a in sys.argv[2:3]))
