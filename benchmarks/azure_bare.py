"""The Speech SDK as its samples use it, for comparison: no future resolved, nothing taken down.

python benchmarks/azure_bare.py HOST COUNT SECONDS LABEL
"""

from __future__ import annotations

import json
import sys
import threading

import azure.cognitiveservices.speech as sdk

from tests.speech_service.marks import marked_pcm
from tests.support.azure import CHUNK, HURRY, holdings


def transcribe(host: str, pcm: bytes) -> list[str]:
    config = sdk.SpeechConfig(host=host)
    config.set_properties_by_name(HURRY)
    stream = sdk.audio.PushAudioInputStream()
    audio = sdk.audio.AudioConfig(stream=stream)
    transcriber = sdk.transcription.ConversationTranscriber(config, audio)
    texts: list[str] = []
    over = threading.Event()
    transcriber.transcribed.connect(lambda event: texts.append(event.result.text))
    transcriber.session_stopped.connect(lambda _: over.set())
    transcriber.start_transcribing_async()
    for at in range(0, len(pcm), CHUNK):
        stream.write(pcm[at : at + CHUNK])
    stream.close()
    over.wait()
    transcriber.stop_transcribing_async()
    return texts


def main(host: str, count: int, seconds: float, fault: str) -> None:
    pcm = marked_pcm(seconds)
    for number in range(1, count + 1):
        texts = transcribe(host, pcm)
        line = {"job": number, "fault": fault, "outcome": f"{len(texts)} texts", **holdings()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
