"""What every engine promises, and what this one does."""

from __future__ import annotations

import random
from array import array

import pytest
from sttd_voice_activity import VoiceActivity
from sttd_voice_activity.detection import FRAME_BYTES, frames

from sttd.engines import InvalidAudioError, TranscribeOptions
from sttd.engines.testing import EngineContract, Pcm

RATE = 16_000


def sound(seconds: float, loudness: int) -> bytes:
    """Noise, always the same; a loudness of 0 is silence."""
    noise = random.Random(4711)
    samples = (noise.randint(-loudness, loudness) for _ in range(round(seconds * RATE)))
    return array("h", samples).tobytes()


SPOKEN = sound(1.0, 10) + sound(2.0, 8000) + sound(1.0, 10) + sound(1.5, 8000) + sound(1.0, 10)


class TestContract(EngineContract):
    """The suite that sttd brings for every engine."""

    @pytest.fixture
    def engine(self) -> VoiceActivity:
        return VoiceActivity({})

    @pytest.fixture
    def speech(self) -> bytes:
        return SPOKEN


def found(pcm: bytes, **options: object) -> list[tuple[float, float]]:
    engine = VoiceActivity(options)
    segments = engine.transcribe(Pcm(pcm), TranscribeOptions())
    return [(round(s.start_s, 2), round(s.end_s, 2)) for s in segments]


def test_speech_is_found_where_it_is() -> None:
    assert found(SPOKEN) == [(1.0, 3.0), (4.0, 5.5)]


def test_a_short_pause_does_not_divide() -> None:
    assert found(SPOKEN, pause_s=1.5) == [(1.0, 5.5)]


def test_a_click_is_no_speech() -> None:
    assert found(sound(1, 10) + sound(0.04, 20_000) + sound(1, 10)) == []


def test_long_speech_is_cut_so_that_a_killed_job_loses_little() -> None:
    assert found(sound(3.0, 8000), longest_s=1.0) == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]


@pytest.mark.parametrize("size", [2, 640, 642, 65_536])
def test_how_the_stream_is_cut_makes_no_difference(size: int) -> None:
    cut = (SPOKEN[at : at + size] for at in range(0, len(SPOKEN), size))
    whole = [SPOKEN[at : at + FRAME_BYTES] for at in range(0, len(SPOKEN), FRAME_BYTES)]
    assert list(frames(cut)) == whole


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"margin": 3}, "unknown option 'margin'"),
        ({"pause_s": "1s"}, "pause_s must be a number"),
        ({"pause_s": 0}, "more than 0"),
        ({"text": ""}, "not empty"),
    ],
)
def test_wrong_options_are_refused_when_the_daemon_starts(
    options: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        VoiceActivity(options)


def test_a_wrong_wish_fails_its_own_job_only() -> None:
    engine = VoiceActivity({})
    wish = TranscribeOptions(extra={"pause": 1})
    with pytest.raises(InvalidAudioError, match=r"speech\.wav: unknown option 'pause'"):
        list(engine.transcribe(Pcm(SPOKEN), wish))
    assert list(engine.transcribe(Pcm(SPOKEN), TranscribeOptions(extra={"text": "hm"})))
