"""What every engine promises, as a test suite for whoever writes one; needs pytest.

Subclass `EngineContract` in a test module and give it an engine and speech. Behaviour seen through
the public interface only; nothing here knows an engine by name, and nothing of sttd imports it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sttd.engines import (
    BYTES_PER_SECOND,
    Engine,
    EngineError,
    InvalidAudioError,
    Segment,
    TranscribeOptions,
)

__all__ = ["EngineContract", "Pcm"]

CHUNK = 64 * 1024  # bytes, the most that an engine is given at once


class Pcm:
    """An `Audio` from bytes of mono signed 16-bit 16 kHz PCM."""

    def __init__(self, pcm: bytes, start_s: float = 0.0) -> None:
        self.name = "speech.wav"
        self.path = "/nowhere/speech.wav"
        self.duration_s: float | None = start_s + len(pcm) / BYTES_PER_SECOND
        self.start_s = start_s
        self._pcm = pcm

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, len(self._pcm), CHUNK):
            yield self._pcm[at : at + CHUNK]

    def report(self, error: EngineError) -> None:
        """Nobody listens."""


class EngineContract:
    """Provide the fixtures `engine` and `speech` (PCM in which English is spoken)."""

    def segments(self, engine: Engine, audio: Pcm) -> list[Segment]:
        return list(engine.transcribe(audio, TranscribeOptions()))

    def test_it_has_a_name_and_a_version(self, engine: Engine) -> None:
        assert engine.name
        assert engine.version
        assert engine.start in ("fork", "spawn")

    def test_speech_becomes_text_in_order_of_time(self, engine: Engine, speech: bytes) -> None:
        audio = Pcm(speech)

        segments = self.segments(engine, audio)

        assert any(segment.text.strip() for segment in segments)
        assert [s.start_s for s in segments] == sorted(s.start_s for s in segments)
        assert audio.duration_s is not None
        for segment in segments:
            assert 0 <= segment.start_s <= segment.end_s <= audio.duration_s + 0.5
            assert segment.confidence is None or 0 <= segment.confidence <= 1
            for word in segment.words:
                assert word.start_s <= word.end_s
                assert word.text

    def test_a_resumed_recording_counts_from_its_own_start(
        self, engine: Engine, speech: bytes
    ) -> None:
        segments = self.segments(engine, Pcm(speech, start_s=100.0))

        assert segments
        assert all(segment.start_s >= 100.0 for segment in segments)

    def test_no_samples_are_success_with_nothing_said(self, engine: Engine) -> None:
        assert self.segments(engine, Pcm(b"")) == []

    def test_silence_is_success_with_nothing_said(self, engine: Engine) -> None:
        assert "".join(s.text for s in self.segments(engine, Pcm(bytes(64_000)))).strip() == ""

    def test_an_error_of_the_audio_reaches_the_caller(self, engine: Engine, speech: bytes) -> None:
        class Torn(Pcm):
            def __iter__(self) -> Iterator[bytes]:
                yield self._pcm[:CHUNK]
                raise InvalidAudioError("torn")

        with pytest.raises(InvalidAudioError, match="torn"):
            self.segments(engine, Torn(speech))

    def test_one_engine_transcribes_one_recording_after_another(
        self, engine: Engine, speech: bytes
    ) -> None:
        first = self.segments(engine, Pcm(speech))
        second = self.segments(engine, Pcm(speech))

        assert [s.text for s in first] == [s.text for s in second]

    def test_closing_the_iterator_ends_the_work(self, engine: Engine, speech: bytes) -> None:
        stream = engine.transcribe(Pcm(speech), TranscribeOptions())
        next(stream, None)
        stream.close()  # type: ignore[attr-defined]  # it is a generator

        assert self.segments(engine, Pcm(speech))

    def test_a_job_leaves_no_native_object_behind(self, engine: Engine, speech: bytes) -> None:
        count = getattr(engine, "handles", None)
        if count is None:
            pytest.skip("it counts none")
        self.segments(engine, Pcm(speech))  # what is made once, on first use
        before = dict(count())

        self.segments(engine, Pcm(speech))

        assert dict(count()) == before
