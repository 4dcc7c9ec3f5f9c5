"""What every engine must do, whichever it is. Each job runs in a forked child, as in a worker.

Another engine joins by its name in `ENGINES` and its options; `LISTENING` has those that hear.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from sttd.engines import BYTES_PER_SECOND, Audio, Engine, InvalidAudioError, TranscribeOptions
from sttd.engines.loading import load
from tests.support.audio import RECORDINGS, PcmAudio, read_wav, silence
from tests.support.children import in_child

ENGINES: dict[str, Mapping[str, object]] = {
    "drill": {"segments": 4, "speak_words": True},
    "pocketsphinx": {},
}
LISTENING = {"pocketsphinx"}

SHORT = RECORDINGS / "closed-on-sunday.wav"  # one sentence
LONG = RECORDINGS / "tone-and-weather.wav"  # two, with a pause between them

Said = list[dict[str, Any]]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Built once and never used in this process, as in a template."""
    name: str = request.param
    if name == "pocketsphinx":
        pytest.importorskip("pocketsphinx", reason="needs the extra pocketsphinx")
    return load(name)(ENGINES[name])


def listen(engine: Engine, audio: Audio, options: TranscribeOptions | None = None) -> Said:
    segments = engine.transcribe(audio, options or TranscribeOptions())
    return [msgspec.to_builtins(segment) for segment in segments]


@pytest.fixture(scope="module")
def said(engine: Engine) -> Said:
    """What a fresh child hears in the long recording."""
    heard: Said = in_child(lambda: listen(engine, PcmAudio(read_wav(LONG))))
    return heard


def test_segments_and_words_come_in_order_and_lie_inside_the_recording(said: Said) -> None:
    duration_s = len(read_wav(LONG)) / BYTES_PER_SECOND
    assert len(said) >= 2
    before = 0.0
    for segment in said:
        assert before <= segment["start_s"] <= segment["end_s"] <= duration_s
        before = segment["end_s"]
        inside = segment["start_s"]
        assert segment["words"]
        for word in segment["words"]:
            assert inside <= word["start_s"] <= word["end_s"] <= segment["end_s"]
            inside = word["end_s"]
        assert segment["text"] == " ".join(word["text"] for word in segment["words"])
        assert 0 <= segment["confidence"] <= 1


def test_the_size_of_the_chunks_makes_no_difference(engine: Engine, said: Said) -> None:
    for chunk in (640, 1002):
        assert in_child(lambda: listen(engine, PcmAudio(read_wav(LONG), chunk=chunk))) == said  # noqa: B023


def test_a_job_hears_the_same_whatever_the_worker_did_before(engine: Engine, said: Said) -> None:
    def second_job() -> Said:
        listen(engine, PcmAudio(read_wav(SHORT)))
        listen(engine, PcmAudio(os.urandom(2 * BYTES_PER_SECOND)))
        return listen(engine, PcmAudio(read_wav(LONG)))

    assert in_child(second_job) == said


def test_an_iterator_may_be_closed_at_any_time_and_the_next_job_is_whole(
    engine: Engine, said: Said
) -> None:
    def after_closing() -> Said:
        untouched = engine.transcribe(PcmAudio(read_wav(LONG)), TranscribeOptions())
        untouched.close()  # type: ignore[attr-defined]  # a generator
        begun = engine.transcribe(PcmAudio(read_wav(LONG)), TranscribeOptions())
        assert next(begun)
        begun.close()  # type: ignore[attr-defined]  # a generator
        return listen(engine, PcmAudio(read_wav(LONG)))

    assert in_child(after_closing) == said


class Broken(PcmAudio):
    """Breaks off in the middle of a word."""

    def __iter__(self) -> Any:
        for chunk in super().__iter__():
            yield chunk
            if self.position_s > 1:
                raise InvalidAudioError("the rest is noise")


def test_a_recording_that_breaks_off_raises_and_the_next_job_is_whole(
    engine: Engine, said: Said
) -> None:
    def after_the_break() -> Said:
        with pytest.raises(InvalidAudioError, match="the rest is noise"):
            listen(engine, Broken(read_wav(LONG), chunk=3200))
        return listen(engine, PcmAudio(read_wav(LONG)))

    assert in_child(after_the_break) == said


def test_a_resumed_job_says_only_what_comes_after_its_start(engine: Engine, said: Said) -> None:
    half = len(said) // 2
    start_s = said[half - 1]["end_s"]
    rest = in_child(lambda: listen(engine, PcmAudio(read_wav(LONG), start_s=start_s)))
    assert [each["text"] for each in rest] == [each["text"] for each in said[half:]]
    for heard, expected in zip(rest, said[half:], strict=True):
        assert heard["start_s"] >= start_s
        assert heard["start_s"] == pytest.approx(expected["start_s"], abs=0.2)
        assert heard["end_s"] == pytest.approx(expected["end_s"], abs=0.2)


def test_segments_come_while_the_recording_is_still_being_read(engine: Engine) -> None:
    def position_at_the_first() -> float:
        audio = PcmAudio(read_wav(LONG), chunk=3200)
        next(engine.transcribe(audio, TranscribeOptions()))
        return audio.position_s

    duration_s = len(read_wav(LONG)) / BYTES_PER_SECOND
    assert in_child(position_at_the_first) < duration_s - 1


def test_a_recording_without_samples_has_no_segments(engine: Engine) -> None:
    assert in_child(lambda: listen(engine, PcmAudio(b""))) == []


def test_a_recording_of_unknown_duration_is_transcribed_all_the_same(engine: Engine) -> None:
    def without_duration() -> Said:
        audio = PcmAudio(read_wav(SHORT))
        audio.duration_s = None
        return listen(engine, audio)

    duration_s = len(read_wav(SHORT)) / BYTES_PER_SECOND
    heard = in_child(without_duration)
    assert heard
    assert heard[-1]["end_s"] <= duration_s


@pytest.mark.parametrize("pcm", [silence(3), silence(0.01), silence(0.5)])
def test_silence_has_no_segments(engine: Engine, pcm: bytes) -> None:
    if engine.name not in LISTENING:
        pytest.skip(f"{engine.name} does not listen")
    assert in_child(lambda: listen(engine, PcmAudio(pcm))) == []


def test_nothing_is_written_to_the_standard_streams(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    def everything() -> bool:
        again = type(engine)(ENGINES[engine.name])
        return bool(listen(again, PcmAudio(read_wav(SHORT))))

    assert in_child(everything)
    assert capfd.readouterr() == ("", "")


def test_building_an_engine_that_may_be_forked_starts_no_thread(engine: Engine) -> None:
    def threads() -> list[int]:
        before = len(os.listdir("/proc/self/task"))
        built = type(engine)(ENGINES[engine.name])
        assert built.start == "fork"
        return [before, len(os.listdir("/proc/self/task")), threading.active_count()]

    assert in_child(threads) == [1, 1, 1]


def test_an_engine_tells_its_name_and_its_version(engine: Engine) -> None:
    assert engine.name in ENGINES
    assert engine.version


def test_what_an_engine_does_not_know_is_named(engine: Engine) -> None:
    def refused() -> str:
        with pytest.raises(InvalidAudioError) as caught:
            listen(
                engine,
                PcmAudio(read_wav(SHORT), name="a/talk.wav"),
                TranscribeOptions(extra={"segmants": 2}),
            )
        return str(caught.value)

    message = in_child(refused)
    assert "a/talk.wav" in message
    assert "segmants" in message
