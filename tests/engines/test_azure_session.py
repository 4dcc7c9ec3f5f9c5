"""The Azure engine's sessions: the unmodified Speech SDK against the local service."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from sttd.engines import InvalidAudioError, TranscribeOptions, TransientEngineError
from sttd.engines.azure.configuration import FRAME_BYTES, poll_ms
from tests.speech_service.behaviour import Behaviour
from tests.speech_service.counters import Session
from tests.speech_service.running import Running, running_service
from tests.support.azure import CHUNK, Recording, engine_for, heard, transcribe, whole


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with running_service() as service:
        yield service


@pytest.fixture
def service(running: Running) -> Running:
    running.service.plan = [Behaviour()]
    running.counters.sessions.clear()
    return running


def only(service: Running) -> Session:
    (session,) = service.counters.sessions.values()
    return session


def test_a_recording_comes_out_whole_and_in_order(service: Running) -> None:
    segments = transcribe(engine_for(service.host), Recording(7.3))

    assert whole(segments, 7.3)
    assert heard(segments) == [(0, 19), (20, 39), (40, 59), (60, 72)]
    assert {segment.language for segment in segments} == {"en-US"}
    assert {segment.confidence for segment in segments} == {0.9}
    assert [segment.speaker for segment in segments] == ["Guest-1", "Guest-2"] * 2
    assert [(w.start_s, w.end_s) for s in segments for w in s.words] == [
        (s.start_s, s.end_s) for s in segments
    ]


def test_the_service_receives_every_byte_once(service: Running) -> None:
    transcribe(engine_for(service.host), Recording(6.0))

    assert only(service).audio_bytes == 6 * 32_000
    assert only(service).turns[0].ended
    assert only(service).path == "/speech/universal/v2"


def test_no_message_of_audio_is_larger_than_eight_kibibytes(service: Running) -> None:
    transcribe(engine_for(service.host), Recording(6.0))

    assert FRAME_BYTES < only(service).turns[0].largest_message <= 8_192


@pytest.mark.parametrize(
    ("pace", "rest_s", "ms"),
    [
        (2.0, 3600.0, 100),
        (2.0, None, 100),
        (2.0, 15.0, 10),
        (1.0, 3600.0, 100),
        (6.0, 3600.0, 33),
        (100.0, 3600.0, 10),
    ],
)
def test_the_connection_is_looked_at_once_a_message_but_always_for_short_recordings(
    pace: float, rest_s: float | None, ms: int
) -> None:
    assert poll_ms(pace, rest_s) == ms


def test_segments_are_yielded_while_the_recording_is_still_being_sent(service: Running) -> None:
    recording = Recording(30.0)
    stream = engine_for(service.host, hurry=False).transcribe(recording, TranscribeOptions())

    first = next(stream)

    assert first.text == "m0-m19"
    assert recording.handed < 30 * 32_000
    stream.close()  # type: ignore[attr-defined]  # it is a generator


def test_no_more_audio_is_taken_than_the_session_needs(service: Running) -> None:
    """Backpressure: five seconds go out at once, the rest at twice real time."""
    recording = Recording(300.0)
    stream = engine_for(service.host, hurry=False).transcribe(recording, TranscribeOptions())

    next(stream)

    assert recording.handed <= 5 * 32_000 + 5 * CHUNK
    stream.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_caller_that_closes_the_iterator_ends_the_session(service: Running) -> None:
    stream = engine_for(service.host).transcribe(Recording(120.0), TranscribeOptions())
    next(stream)

    stream.close()  # type: ignore[attr-defined]  # it is a generator

    service.wait_until(lambda counters: counters.now == 0)


def test_a_recording_without_samples_is_success_without_a_session(service: Running) -> None:
    assert transcribe(engine_for(service.host), Recording(0.0)) == []
    assert not service.counters.sessions


def test_a_recording_in_which_nobody_speaks_is_success(service: Running) -> None:
    service.service.plan = [Behaviour(phrase_status="NoMatch")]

    assert transcribe(engine_for(service.host), Recording(5.0)) == []


def test_an_error_of_the_audio_reaches_the_caller_and_ends_the_session(service: Running) -> None:
    class Torn(Recording):
        def __iter__(self) -> Iterator[bytes]:
            yield from itertools.islice(super().__iter__(), 3)
            raise InvalidAudioError("torn")

    with pytest.raises(InvalidAudioError, match="torn"):
        transcribe(engine_for(service.host), Torn(60.0))

    service.wait_until(lambda counters: counters.now == 0)


def test_a_session_that_cannot_be_stopped_is_a_failed_attempt(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the SDK raises there: its last phrases may not have arrived."""
    sdk = pytest.importorskip("azure.cognitiveservices.speech.transcription")

    def failing(_: object) -> None:
        raise RuntimeError("0x1b (SPXERR_RUNTIME_ERROR)")

    monkeypatch.setattr(sdk.ConversationTranscriber, "stop_transcribing_async", failing)

    with pytest.raises(TransientEngineError, match="could not be stopped"):
        transcribe(engine_for(service.host), Recording(3.0))

    service.wait_until(lambda counters: counters.now == 0)


def test_times_are_right_when_the_service_ends_its_turns(service: Running) -> None:
    service.service.plan = [Behaviour(turn_every_s=3.0)]

    segments = transcribe(engine_for(service.host), Recording(10.0))

    assert whole(segments, 10.0)
    assert len(only(service).turns) >= 4


def test_times_are_right_after_reconnections_and_nothing_is_lost(service: Running) -> None:
    drops = [Behaviour(drop_at_s=second) for second in (3.0, 5.0, 2.5)]
    service.service.plan = [*drops, Behaviour()]
    # a connection that is aborted may take phrases with it that were sent and not yet read, so that
    # two drops in a row may bring the SDK no progress
    engine = engine_for(service.host, properties={"SPEECH-Error-MaxRetryCount": "4"})

    segments = transcribe(engine, Recording(20.0))

    assert whole(segments, 20.0)
    assert len(only(service).tokens) == 4


def test_a_text_longer_than_the_sdks_own_buffer_arrives_whole(service: Running) -> None:
    text = "a" + "\u00fc" * 5000  # cut at 2,047 bytes it would end inside a character
    service.service.plan = [Behaviour(text=text)]

    segments = transcribe(engine_for(service.host), Recording(4.0))

    assert [segment.text for segment in segments] == [text, text]


def test_phrases_out_of_order_are_put_in_order_and_none_is_lost(service: Running) -> None:
    service.service.plan = [Behaviour(disorder=True)]

    segments = transcribe(engine_for(service.host), Recording(8.0))

    starts = [segment.start_s for segment in segments]
    assert starts == sorted(starts)
    assert {s.text for s in segments} == {"m0-m19", "m20-m39", "m40-m59", "m60-m79"}


@pytest.mark.parametrize("garbage", ["text", "binary", "request_id", "path"])
def test_meaningless_frames_are_passed_over(service: Running, garbage: str) -> None:
    service.service.plan = [Behaviour(garbage=garbage)]  # type: ignore[arg-type]  # one of them

    assert whole(transcribe(engine_for(service.host), Recording(6.0)), 6.0)


def test_a_resumed_recording_keeps_its_times(service: Running) -> None:
    segments = transcribe(engine_for(service.host), Recording(9.0, start_s=4.0))

    assert whole(segments, 9.0, start_s=4.0)
    assert only(service).audio_bytes == 5 * 32_000


# -- what the service is asked for -------------------------------------------------------------
def test_one_language_is_fixed(service: Running) -> None:
    transcribe(engine_for(service.host, languages=["de-DE"]), Recording(1.0))

    assert only(service).query["language"] == "de-DE"
    assert "languageId" not in only(service).turns[0].context


@pytest.mark.parametrize(
    ("mode", "on_the_wire"), [("start", "DetectAtAudioStart"), ("continuous", "DetectContinuous")]
)
def test_several_languages_are_identified(service: Running, mode: str, on_the_wire: str) -> None:
    engine = engine_for(service.host, languages=["en-US", "de-DE"], language_id=mode)

    segments = transcribe(engine, Recording(4.0))

    asked = only(service).turns[0].context["languageId"]
    assert asked["languages"] == ["en-US", "de-DE"]
    assert asked["mode"] == on_the_wire
    assert [segment.language for segment in segments] == ["en-US", "de-DE"]


def test_options_of_a_job_override_the_configuration(service: Running) -> None:
    options = TranscribeOptions(
        languages=("fr-FR",),
        diarization=False,
        phrases=("sttd", "Guest"),
        profanity="raw",
        extra={"segmentation_silence_ms": 700, "phrase_weight": 1.5, "endpoint_id": "abc-1"},
    )

    segments = transcribe(engine_for(service.host), Recording(3.0), options)

    session = only(service)
    context = session.turns[0].context
    assert session.query["language"] == "fr-FR"
    assert session.query["profanity"] == "raw"
    assert session.query["cid"] == "abc-1"
    assert {segment.speaker for segment in segments} == {None}
    texts = [item["Text"] for item in context["dgi"]["Groups"][0]["Items"]]
    assert texts == ["sttd", "Guest"]
    assert context["dgi"]["bias"] == 1.5
    assert "700" in str(context["phraseDetection"])


def test_words_with_times_and_speakers_are_always_asked_for(service: Running) -> None:
    transcribe(engine_for(service.host), Recording(1.0))

    session = only(service)
    assert session.query["wordLevelTimestamps"] == "true"
    detection = session.turns[0].context["phraseDetection"]
    assert detection["speakerDiarization"]["mode"] == "Anonymous"
    assert "diarizeIntermediates" not in detection["speakerDiarization"]


def test_raw_properties_reach_the_sdk(service: Running) -> None:
    engine = engine_for(service.host, properties={"Speech_SegmentationStrategy": "Semantic"})

    transcribe(engine, Recording(1.0))

    assert "Semantic" in str(only(service).turns[0].context)
