"""The layouts of a transcript, to the letter where scripts depend on it."""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
import unicodedata
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import referencing
from hypothesis import given, settings
from hypothesis import strategies as st

from sttd.layouts import FORMATS, clamp, file_name, render, segments_in
from sttd.layouts.subtitles import COLUMNS, LINES, LONGEST_S
from sttd.transcripts import EngineInfo, Segment, Source, Transcript, Word

SCHEMAS = Path(__file__).resolve().parents[3] / "shared" / "schemas"


def transcript(*segments: Segment, duration_s: float = 61.4) -> Transcript:
    return Transcript(
        job_id="0198-1",
        source=Source(name="a/meeting.wav", sha256="ab", bytes=1, duration_s=duration_s),
        engine=EngineInfo(name="azure", version="1.53"),
        languages=("en-US",),
        created="2026-01-31T12:00:00.000Z",
        text=" ".join(segment.text for segment in segments),
        attempts=1,
        segments=segments,
    )


def segment(text: str, start_s: float = 0.32, end_s: float = 4.1, **more: Any) -> Segment:
    return Segment(start_s=start_s, end_s=end_s, text=text, **more)


def spoken(text: str, *, start_s: float = 0.0, each_s: float = 0.5) -> Segment:
    """A segment with a time for each of its words."""
    words = tuple(
        Word(start_s=start_s + n * each_s, end_s=start_s + (n + 1) * each_s, text=word)
        for n, word in enumerate(text.split())
    )
    return Segment(start_s=start_s, end_s=words[-1].end_s, text=text, words=words)


# -- all of them ---------------------------------------------------------------------------------
def test_files_are_named_after_their_format() -> None:
    assert [file_name(name, "a/meeting-2") for name in FORMATS] == [
        "a/meeting-2.json",
        "a/meeting-2.txt",
        "a/meeting-2.srt",
        "a/meeting-2.vtt",
        "a/meeting-2.azure.json",
    ]


def test_an_unknown_format_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(ValueError, match=r"no layout 'docx'.*json, txt, srt, vtt, azure"):
        render("docx", transcript())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("txt", b""), ("srt", b""), ("vtt", b"WEBVTT\n")],
)
def test_nothing_said_is_an_empty_but_valid_file(name: str, expected: bytes) -> None:
    assert render(name, transcript()) == expected


# -- json ----------------------------------------------------------------------------------------
def test_the_manifest_is_the_contract_to_the_letter() -> None:
    words = (Word(start_s=0.32, end_s=0.6000001, text="Hello"),)
    full = segment(
        "Hello", speaker="Guest-1", language="en-US", confidence=0.93, words=words, end_s=4.09961
    )
    bare = segment("there", 5.0, 6.0)
    data = render("json", transcript(full, bare))
    assert data == (
        b'{"schema":"sttd.transcript/1","job_id":"0198-1",'
        b'"source":{"name":"a/meeting.wav","sha256":"ab","bytes":1,"duration_s":61.4},'
        b'"engine":{"name":"azure","version":"1.53"},"languages":["en-US"],'
        b'"created":"2026-01-31T12:00:00.000Z","text":"Hello there","attempts":1,'
        b'"resumed_at_s":[],"segments":['
        b'{"start_s":0.32,"end_s":4.1,"speaker":"Guest-1","language":"en-US","text":"Hello",'
        b'"confidence":0.93,"words":[{"start_s":0.32,"end_s":0.6,"text":"Hello"}]},'
        b'{"start_s":5.0,"end_s":6.0,"speaker":null,"language":null,"text":"there",'
        b'"confidence":null,"words":[]}]}\n'
    )


def test_a_manifest_without_speech_has_empty_text_and_no_segments() -> None:
    said = json.loads(render("json", transcript()))
    assert (said["text"], said["segments"]) == ("", [])


def test_a_manifest_can_be_read_back_as_a_transcript() -> None:
    one = transcript(spoken("good morning everyone"))
    assert msgspec.json.decode(render("json", one), type=Transcript) == one


# -- txt -----------------------------------------------------------------------------------------
def test_text_has_a_line_for_each_segment_and_names_the_speaker() -> None:
    one = transcript(
        segment("Good\nmorning.", speaker="Guest-1"), segment("  "), segment("Hello.", 5, 6)
    )
    assert render("txt", one) == b"Guest-1: Good morning.\nHello.\n"


def test_text_without_segments_is_the_transcripts_own() -> None:
    one = msgspec.structs.replace(transcript(), text="all of it")
    assert render("txt", one) == b"all of it\n"


# -- srt and vtt ---------------------------------------------------------------------------------
def test_subrip_numbers_its_cues_and_puts_the_speaker_before_the_text() -> None:
    one = transcript(
        segment("Good morning.", speaker="Guest-1"), segment("Hello.", 3661.5, 3662.25)
    )
    assert render("srt", one).decode() == (
        "1\n00:00:00,320 --> 00:00:04,100\nGuest-1: Good morning.\n"
        "\n"
        "2\n01:01:01,500 --> 01:01:02,250\nHello.\n"
    )


def test_webvtt_puts_the_speaker_in_a_voice_tag_and_escapes_what_is_markup() -> None:
    one = transcript(segment("a < b && c --> d", speaker="<Guest> & Co"))
    assert render("vtt", one).decode() == (
        "WEBVTT\n\n"
        "00:00:00.320 --> 00:00:04.100\n"
        "<v &lt;Guest&gt; &amp; Co>a &lt; b &amp;&amp; c --&gt; d\n"
    )


def test_an_arrow_in_subrip_text_does_not_pass_for_a_time() -> None:
    assert render("srt", transcript(segment("a --> b"))).count(b"-->") == 1


def test_a_long_segment_is_cut_where_its_words_are() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    said = render("srt", transcript(spoken(text))).decode()
    assert said == (
        "1\n00:00:00,000 --> 00:00:07,000\n"
        "one two three four five six seven eight\nnine ten eleven twelve thirteen fourteen\n"
    )
    slower = render("srt", transcript(spoken(text, each_s=1.0))).decode()
    assert slower == (
        "1\n00:00:00,000 --> 00:00:07,000\none two three four five six seven\n"
        "\n"
        "2\n00:00:07,000 --> 00:00:14,000\n"
        "eight nine ten eleven twelve thirteen\nfourteen\n"
    )


def test_without_word_times_a_cue_lasts_as_long_as_its_share_of_the_text() -> None:
    half = "word " * 16
    said = cues(render("srt", transcript(segment(half + half, 0.0, 10.0))).decode())
    assert [(start, end) for start, end, _ in said][:1] == [(0, 5000)]
    assert said[-1][1] == 10_000


def test_words_that_are_not_those_of_the_text_still_give_the_times() -> None:
    """The service writes numbers in digits, and times their words."""
    words = spoken("twenty five euros and no more than that please").words
    told = Segment(start_s=0.0, end_s=100.0, text="25 € and no more than that please.", words=words)
    said = cues(render("srt", transcript(told)).decode())
    assert said[-1][1] == 4500


def test_a_sentence_that_fills_a_line_is_not_mixed_with_the_next() -> None:
    text = "This is a sentence that takes most of one line. And this is another one."
    said = cues(render("srt", transcript(spoken(text, each_s=0.2))).decode())
    assert [lines for _, _, lines in said] == [
        ["This is a sentence that takes most of one", "line."],
        ["And this is another one."],
    ]


def test_text_without_spaces_is_cut_into_lines_by_its_width() -> None:
    said = cues(render("vtt", transcript(segment("字" * 100, 0.0, 20.0))).decode())
    assert "".join(line for _, _, lines in said for line in lines) == "字" * 100
    assert all(2 * len(line) <= COLUMNS for _, _, lines in said for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "น้ำที่นี่ปั๊มขึ้นมาจากใต้ดินตั้งแต่ปีที่แล้วและยังใช้ดื่มได้ทุกวันไม่ต้องต้ม" * 2,  # Thai
        "किंतु" * 30,  # Hindi, whose vowels may take a column
        "e\N{COMBINING ACUTE ACCENT}" * 100,
        "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}" * 40,
        "\N{COMBINING ACUTE ACCENT}" * 50 + "\N{DEVANAGARI SIGN VISARGA}" * 50,
    ],
    ids=["Thai", "Hindi", "accents", "pictures", "nothing but marks"],
)
def test_a_long_word_is_cut_between_characters_as_a_reader_knows_them(text: str) -> None:
    said = cues(render("vtt", transcript(segment(text, 0.0, 20.0))).decode())
    lines = [line for _, _, lines in said for line in lines]
    assert "".join(lines) == text
    for before, line in itertools.pairwise(lines):
        assert unicodedata.category(line[0]) not in {"Mn", "Mc", "Me"}
        assert "\N{ZERO WIDTH JOINER}" not in {line[0], before[-1]}


def test_marks_on_a_letter_take_no_column() -> None:
    text = "e\N{COMBINING ACUTE ACCENT}" * COLUMNS
    assert cues(render("vtt", transcript(segment(text))).decode()) == [(320, 4100, [text])]


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_an_interjection_stands_where_it_was_said_between_the_parts_of_what_it_interrupts(
    name: str,
) -> None:
    long = spoken(" ".join(["word"] * 21), each_s=1.0)
    said = cues(render(name, transcript(long, segment("Yes?", 3.0, 4.0))).decode())
    assert [start for start, _, _ in said] == [0, 3000, 7000, 14_000]
    assert said[1] == (3000, 4000, ["Yes?"])


def test_what_begins_at_the_same_time_keeps_its_order() -> None:
    one = transcript(*(segment(text, 1.0, 2.0) for text in "cab"))
    assert [lines for _, _, lines in cues(render("vtt", one).decode())] == [["c"], ["a"], ["b"]]


def test_a_word_that_never_ends_is_shown_for_seven_seconds() -> None:
    said = cues(render("srt", transcript(segment("Aaah", 1.0, 60.0))).decode())
    assert said == [(1000, 8000, ["Aaah"])]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=100)
SPAN = st.tuples(st.floats(0, 1000), st.floats(0, 30))


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    start, length = draw(SPAN)
    words = []
    for text in draw(st.lists(TEXTS, max_size=5)):
        at, lasting = draw(SPAN)
        words.append(Word(start_s=at, end_s=at + lasting, text=text))
    return Segment(
        start_s=start,
        end_s=start + length,
        text=draw(TEXTS),
        speaker=draw(st.none() | st.sampled_from(["Guest-1", "2/Guest-1", "Unknown", "Ann\n-->"])),
        language=draw(st.none() | st.just("de-DE")),
        confidence=draw(st.none() | st.floats(0, 1)),
        words=tuple(sorted(words, key=lambda word: word.start_s)),
    )


@settings(deadline=None)
@given(st.lists(segments(), max_size=2))
def test_every_cue_can_be_read_whatever_was_said(said: list[Segment]) -> None:
    one = transcript(*said)
    for name in ("srt", "vtt"):
        found = cues(render(name, one).decode())
        assert [start for start, _, _ in found] == sorted(start for start, _, _ in found)
        for start, end, lines in found:
            assert start < end <= start + LONGEST_S * 1000 + 1
            assert 1 <= len(lines) <= LINES + 1  # a speaker's name may take a line
            assert all(lines)


TIME = re.compile(r"(\d\d+):(\d\d):(\d\d)[,.](\d{3})")


def cues(text: str) -> list[tuple[int, int, list[str]]]:
    """Read srt or vtt strictly: start, end (ms) and lines of each cue."""
    blocks = text.split("\n\n")
    if blocks[0].strip() == "WEBVTT":
        del blocks[0]
    found = []
    for number, block in enumerate(filter(None, blocks), 1):
        lines = block.rstrip("\n").split("\n")
        if "-->" not in lines[0]:
            assert lines.pop(0) == str(number)
        times = lines.pop(0)
        (h1, m1, s1, f1), (h2, m2, s2, f2) = (map(int, t) for t in TIME.findall(times))
        start, end = ((h1 * 60 + m1) * 60 + s1) * 1000 + f1, ((h2 * 60 + m2) * 60 + s2) * 1000 + f2
        assert not any("-->" in line for line in lines)
        found.append((start, end, lines))
    return found


# -- azure ---------------------------------------------------------------------------------------
@pytest.fixture
def schema() -> jsonschema.protocols.Validator:
    return validator()


@functools.cache
def validator() -> jsonschema.protocols.Validator:
    if not SCHEMAS.is_dir():
        pytest.skip("the service's published schemas are not here (../shared/schemas)")
    documents = [json.loads(path.read_text()) for path in SCHEMAS.glob("*.schema.json")]
    registry: Any = referencing.Registry().with_resources(
        (d["$id"], referencing.Resource.from_contents(d)) for d in documents
    )
    newest = next(d for d in documents if "v2024-11-15" in d["$id"])
    return jsonschema.Draft7Validator(newest, registry=registry)


def azure(*said: Segment, duration_s: float = 61.4) -> Any:
    return json.loads(render("azure", transcript(*said, duration_s=duration_s)))


def test_a_full_transcript_validates_against_the_services_schema(
    schema: jsonschema.protocols.Validator,
) -> None:
    one = msgspec.structs.replace(
        spoken("It's 5 o'clock, here."), speaker="Guest-1", language="en-US", confidence=0.9
    )
    schema.validate(azure(one, segment("Yes.", 5.0, 6.0, speaker="Unknown")))


def test_an_empty_transcript_validates_too(schema: jsonschema.protocols.Validator) -> None:
    schema.validate(azure(duration_s=0.0))


def test_the_schema_would_notice_a_missing_member(schema: jsonschema.protocols.Validator) -> None:
    broken = azure(segment("Yes."))
    del broken["recognizedPhrases"][0]["nBest"][0]["itn"]
    assert not schema.is_valid(broken)


@settings(deadline=None)
@given(st.lists(segments(), max_size=2))
def test_whatever_was_said_validates(said: list[Segment]) -> None:
    validator().validate(azure(*clamp(said, 100.0)[0]))


def test_the_azure_layout_counts_in_ticks_and_iso_durations() -> None:
    found = azure(segment("Good morning, Ms. O'Neil!", 0.32, 4.1), duration_s=3661.4)
    assert found["duration"] == "PT1H1M1.4S"
    assert found["durationInTicks"] == 36_614_000_000
    assert found["durationMilliseconds"] == 3_661_400
    phrase = found["recognizedPhrases"][0]
    assert (phrase["offset"], phrase["offsetInTicks"]) == ("PT0.32S", 3_200_000)
    assert (phrase["duration"], phrase["durationMilliseconds"]) == ("PT3.78S", 3780)
    assert phrase["nBest"][0]["display"] == "Good morning, Ms. O'Neil!"
    assert phrase["nBest"][0]["lexical"] == "good morning ms o'neil"
    assert found["combinedRecognizedPhrases"][0]["display"] == "Good morning, Ms. O'Neil!"


@pytest.mark.parametrize(
    ("seconds", "written"), [(0, "PT0S"), (4.12, "PT4.12S"), (60, "PT1M"), (7200.001, "PT2H0.001S")]
)
def test_durations_are_iso_8601(seconds: float, written: str) -> None:
    assert azure(duration_s=seconds)["duration"] == written


def test_speakers_become_numbers_and_those_of_a_later_session_stay_apart() -> None:
    labels = ["Guest-2", "2/Guest-2", "Unknown", "Guest-1", "2/Guest-2", None]
    found = azure(*(segment("x", n, n + 1, speaker=label) for n, label in enumerate(labels)))
    assert [p.get("speaker") for p in found["recognizedPhrases"]] == [2, 3, 0, 1, 3, None]


# -- clamp ---------------------------------------------------------------------------------------
def test_good_segments_are_left_as_they_are() -> None:
    good = [spoken("one two three"), segment("Yes.", 5.0, 6.0, confidence=1.0)]
    assert clamp(good, 61.4) == (good, [])
    assert segments_in([]) == 0


def test_what_violates_the_order_of_time_is_put_right_and_told() -> None:
    bad = [segment("late", 50.0, 70.0), segment("turned", 9.0, 8.0), segment("early", -1.0, 2.0)]
    mended, changes = clamp(bad, 61.4)
    assert [(s.text, s.start_s, s.end_s) for s in mended] == [
        ("early", 0.0, 2.0),
        ("turned", 9.0, 9.0),
        ("late", 50.0, 61.4),
    ]
    assert changes == [
        "segment 0: end_s 70.000 became 61.400",
        "segment 1: end_s 8.000 became 9.000",
        "segment 2: start_s -1.000 became 0.000",
        "segments were not in order of time: sorted",
    ]
    assert segments_in(changes) == 3


def test_words_are_put_right_likewise() -> None:
    words = (Word(start_s=3, end_s=99, text="b"), Word(start_s=1, end_s=2, text="a"))
    mended, changes = clamp([segment("a b", 1.0, 4.0, words=words)], 10.0)
    assert [(w.text, w.end_s) for w in mended[0].words] == [("a", 2), ("b", 10.0)]
    assert len(changes) == 2
    assert segments_in(changes) == 1


def test_less_than_a_millisecond_is_no_news() -> None:
    mended, changes = clamp([segment("x", 0.0, 10.0004)], 10.0)
    assert (mended[0].end_s, changes) == (10.0, [])


def test_half_a_character_and_a_confidence_that_is_no_number_never_fail_a_layout() -> None:
    odd = segment("ab\ud83d", 0.0, 1.0, confidence=math.nan, speaker="\udc80")
    mended, changes = clamp([odd], 10.0)
    assert mended[0].text == "ab\ufffd"
    assert mended[0].confidence is None
    assert len(changes) == 3
    for name in FORMATS:
        render(name, transcript(*mended))


ANY = st.floats() | st.floats(-10, 70)


@settings(deadline=None)
@given(
    st.lists(st.builds(Segment, start_s=ANY, end_s=ANY, text=st.just("x"), confidence=ANY)),
    st.floats(0, 60),
)
def test_after_clamping_every_promise_holds(said: list[Segment], duration_s: float) -> None:
    mended, changes = clamp(said, duration_s)
    assert len(mended) == len(said)
    assert all(0 <= s.start_s <= s.end_s <= duration_s for s in mended)
    assert [s.start_s for s in mended] == sorted(s.start_s for s in mended)
    assert clamp(mended, duration_s) == (mended, [])
    if mended != said and not changes:
        assert all(
            abs(a.start_s - b.start_s) < 0.001 and abs(a.end_s - b.end_s) < 0.001
            for a, b in zip(mended, said, strict=True)
        )
