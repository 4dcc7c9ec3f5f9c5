"""What an engine yields is a segment, or is refused with the name of what is wrong."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from sttd.engines import Segment, Word
from sttd.worker.yielded import checked
from tests.support.engines import GOOD, wrong


def like_good(**fields: Any) -> Segment:
    return msgspec.structs.replace(GOOD, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"speaker": "Guest-1", "language": "en-US", "confidence": 0.5},
        {"words": (Word(start_s=0.0, end_s=0.5, text="good"),)},
        {"end_s": math.inf, "start_s": -math.inf},  # times are `clamp`'s business
        {"text": "half \ud800"},  # and so are texts
    ],
)
def test_a_segment_is_left_as_it_is(fields: dict[str, Any]) -> None:
    assert checked(like_good(**fields)) == like_good(**fields)


def test_whole_seconds_a_list_of_words_and_no_number_for_a_confidence_will_do() -> None:
    word = Word(start_s=0, end_s=1, text="good")
    said = checked(like_good(start_s=0, end_s=1, confidence=math.nan, words=[word]))
    assert said.words == (word,)
    assert said.confidence is not None
    assert math.isnan(said.confidence)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("a tuple", r"yielded `tuple`, and no Segment; docs/engines\.md"),
        ("text", r"wrong `text`: Expected `str`, got `null`"),
        ("bytes", r"wrong `text`: Expected `str`, got `bytes`"),
        ("word", r"wrong `words`: expected `Word`, got `dict`"),
        ("object", r"wrong `start_s`: .*object"),
    ],
)
def test_what_is_none_is_refused_and_the_field_named(kind: str, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        checked(wrong(kind))


def test_a_word_without_an_end_is_refused() -> None:
    word = Word(start_s=0.0, end_s=None, text="good")  # type: ignore[arg-type]  # what is wrong
    with pytest.raises(
        TypeError, match=r"wrong `words`: Expected `float`, got `null` - at .*end_s"
    ):
        checked(like_good(words=(word,)))
