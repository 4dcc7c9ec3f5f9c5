"""The local Speech service itself: what the other tests rely on must be able to fail."""

from __future__ import annotations

import json
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.speech_service.behaviour import Behaviour, Settings
from tests.speech_service.marks import MARK_BYTES, marked_pcm
from tests.speech_service.protocol import compose, parse, ticks
from tests.speech_service.recognisers import Marks
from tests.speech_service.running import separate_service
from tests.support.azure import Recording, engine_for, transcribe, whole


def test_marks_that_are_whole_are_named() -> None:
    reader = Marks(2.0)

    found = reader.hear(marked_pcm(5.0)) + reader.finish()

    assert [phrase.text for phrase in found] == ["m0-m19", "m20-m39", "m40-m49"]


@pytest.mark.parametrize(
    "pcm",
    [
        marked_pcm(1.0) + marked_pcm(0.9, start_s=1.1),
        marked_pcm(1.0) + marked_pcm(1.0, start_s=0.9),
        marked_pcm(1.0)[: -MARK_BYTES // 2] + marked_pcm(1.1, start_s=1.0),
        marked_pcm(1.0, start_s=1.0) + marked_pcm(1.0),
    ],
    ids=["a block missing", "a block twice", "half a block missing", "out of order"],
)
def test_audio_that_is_not_whole_has_a_hole(pcm: bytes) -> None:
    reader = Marks(2.0)

    found = reader.hear(pcm) + reader.finish()

    assert any("hole" in phrase.text for phrase in found)


def test_a_phrase_may_begin_and_end_inside_a_block() -> None:
    reader = Marks(2.0)
    pcm = marked_pcm(2.0)

    found = reader.hear(pcm[128:]) + reader.finish()

    assert [phrase.text for phrase in found] == ["m0-m19"]


@given(st.text(alphabet=st.characters(codec="utf-8")), st.binary())
def test_messages_survive_the_way_there_and_back(text: str, payload: bytes) -> None:
    message = parse(compose("speech.phrase", "0" * 32, {"DisplayText": text}))
    head = b"Path: audio\r\nX-RequestId: 1\r\n"
    audio = parse(len(head).to_bytes(2, "big") + head + payload)

    assert message.json()["DisplayText"] == text
    assert (message.path, message.request_id) == ("speech.phrase", "0" * 32)
    assert (audio.path, audio.body) == ("audio", payload)


def test_ticks_are_hundred_nanoseconds_of_pcm() -> None:
    assert ticks(32_000) == 10_000_000


def test_it_runs_as_a_process_and_tells_what_it_saw() -> None:
    settings = Settings(plan=(Behaviour(phrase_s=1.0),))
    with separate_service(settings) as service:
        assert whole(transcribe(engine_for(service.host), Recording(3.0)), 3.0)
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/_counters") as answer:
            raw = json.load(answer)
        counters = service.counters()

    assert raw["upgrades"] == counters.upgrades == 1
    (session,) = counters.sessions.values()
    assert session.phrases == 3
    assert session.audio_bytes == 3 * 32_000
    assert session.user_agent.startswith("SpeechSDK-Python/")
    assert session.config["context"]["audio"]["source"]["type"] == "Stream"
    assert session.telemetry
