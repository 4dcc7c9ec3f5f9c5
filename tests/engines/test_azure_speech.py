"""Real words: the Speech SDK against the local service, which recognises by PocketSphinx."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sttd.engines import Engine
from sttd.engines.azure import AzureEngine
from sttd.engines.testing import EngineContract, Pcm
from tests.speech_service.running import running_service
from tests.speech_service.server import SpeechService
from tests.support.audio import SHARED, edits, read_wav
from tests.support.azure import engine_for

RECORDING = SHARED / "sense_and_sensibility_01_austen_64kb-0880.wav"


@pytest.fixture(scope="module")
def engine() -> Iterator[AzureEngine]:
    with running_service(SpeechService(recogniser="pocketsphinx")) as service:
        yield engine_for(service.host, stall_timeout=60.0)


@pytest.fixture(scope="module")
def speech() -> bytes:
    if not RECORDING.exists():
        pytest.skip(f"{RECORDING} is not here: real recordings lie beside the project")
    return read_wav(RECORDING)


class TestAzureOnTheLocalService(EngineContract):
    """The contract of engines."""

    def test_the_words_are_those_that_were_said(self, engine: Engine, speech: bytes) -> None:
        transcripts = (SHARED / "librivox-transcripts.txt").read_text().splitlines()
        (line,) = (line for line in transcripts if RECORDING.stem in line)
        said = line.partition("</s>")[0].removeprefix("<s>").split()

        segments = self.segments(engine, Pcm(speech))

        heard = [word for segment in segments for word in segment.text.lower().split()]
        assert edits(said, heard) / len(said) < 0.45, heard
        for segment in segments:
            for word in segment.words:
                assert segment.start_s - 0.1 <= word.start_s <= word.end_s <= segment.end_s + 0.1
