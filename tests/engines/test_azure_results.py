"""From the service's JSON to segments."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.engines.azure.results import BrokenResultError, Results

TICKS = 10_000_000


def phrase(start_s: float, end_s: float, text: str = "so", **more: Any) -> str:
    best = {"Confidence": 0.5, "Display": text, "Words": []} | more.pop("best", {})
    body = {
        "RecognitionStatus": "Success",
        "Offset": round(start_s * TICKS),
        "Duration": round((end_s - start_s) * TICKS),
        "NBest": [best],
    }
    return json.dumps(body | more)


def results(start_s: float = 0.0, *, diarization: bool = True) -> Results:
    return Results(start_s, "en-US", diarization=diarization)


def test_times_count_from_the_start_of_the_recording_when_a_job_is_resumed() -> None:
    words = [{"Word": "so", "Offset": 1 * TICKS, "Duration": TICKS // 2}]

    segment = results(60.0).segment(phrase(1.0, 2.0, best={"Words": words}))

    assert segment is not None
    assert (segment.start_s, segment.end_s) == (61.0, 62.0)
    assert (segment.words[0].start_s, segment.words[0].end_s) == (61.0, 61.5)


def test_a_simple_result_without_alternatives_is_read_too() -> None:
    body = json.dumps({"DisplayText": "plain", "Offset": 0, "Duration": TICKS})

    segment = results().segment(body)

    assert segment is not None
    assert segment.text == "plain"
    assert segment.confidence is None


@pytest.mark.parametrize(
    "nothing",
    [
        {"NBest": None},
        {"SpeakerId": None},
        {"PrimaryLanguage": None},
        {"PrimaryLanguage": {"Language": None}},
        {"NBest": [{"Display": None, "Words": None}]},
    ],
)
def test_what_may_be_left_out_may_be_null(nothing: dict[str, Any]) -> None:
    segment = results().segment(phrase(0, 1, **{"DisplayText": "so", **nothing}))

    assert segment is not None
    assert (segment.text, segment.language) == ("so", "en-US")


@pytest.mark.parametrize("label", ["", "Unknown"])
def test_a_speaker_the_service_cannot_name_is_none(label: str) -> None:
    segment = results().segment(phrase(0, 1, SpeakerId=label))

    assert segment is not None
    assert segment.speaker is None


def test_without_diarization_there_are_no_speakers() -> None:
    segment = results(diarization=False).segment(phrase(0, 1, SpeakerId="Guest-1"))

    assert segment is not None
    assert segment.speaker is None


def test_the_language_identified_goes_before_the_one_configured() -> None:
    segment = results().segment(phrase(0, 1, PrimaryLanguage={"Language": "de-DE"}))

    assert segment is not None
    assert segment.language == "de-DE"


@pytest.mark.parametrize("status", ["NoMatch", "InitialSilenceTimeout", "EndOfDictation"])
def test_what_is_no_speech_is_no_segment(status: str) -> None:
    assert results().segment(phrase(0, 1, RecognitionStatus=status)) is None


def test_a_phrase_said_twice_after_a_reconnection_is_one() -> None:
    reader = results()

    assert reader.segment(phrase(0, 1)) is not None
    assert reader.segment(phrase(0, 1)) is None


def test_the_same_words_at_another_time_are_another_phrase() -> None:
    reader = results()

    assert reader.segment(phrase(0, 1)) is not None
    assert reader.segment(phrase(1, 2)) is not None


def test_json_that_cannot_be_read_is_no_silent_loss() -> None:
    with pytest.raises(BrokenResultError):
        results().segment('{"RecognitionStatus":"Success","Offset":"soon"}')


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**12), st.integers(0, 10**10), st.floats(-2, 2), st.text(min_size=1)
        )
    )
)
def test_whatever_the_service_sends_order_holds_and_no_text_is_lost(
    phrases: list[tuple[int, int, float, str]],
) -> None:
    reader, texts, last = results(3.0), [], 3.0
    for offset, duration, confidence, text in phrases:
        body = {
            "Offset": offset,
            "Duration": duration,
            "NBest": [{"Display": text, "Confidence": confidence}],
        }
        segment = reader.segment(json.dumps(body))
        if segment is None:
            continue
        assert last <= segment.start_s <= segment.end_s
        assert segment.confidence is not None
        assert 0 <= segment.confidence <= 1
        last = segment.start_s
        texts.append(segment.text)
    assert set(texts) == {text.strip() for *_, text in phrases} - {""}
