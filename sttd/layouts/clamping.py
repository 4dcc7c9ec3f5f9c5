"""Brings an engine's segments into order and inside the recording, and says what it changed.

Engines are plug-ins and services; what they get wrong must never fail a job, nor break a layout.
Nothing is dropped: a segment that lies outside is moved to the nearest edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from sttd.transcripts import Segment, Word

TOLERANCE = 0.001  # seconds; layouts round to it, so a smaller change is no news


def clamp(segments: Iterable[Segment], duration_s: float) -> tuple[list[Segment], list[str]]:
    """The segments with 0 <= start_s <= end_s <= duration_s, in order of start_s, words likewise.

    Confidence is brought between 0 and 1, text to what UTF-8 can hold. The second value has one
    line for each change of a millisecond or more, for the log; empty when all was well. Equal
    starts keep their order; segments may overlap (two people do).
    """
    changes: list[str] = []
    mended = [
        _segment(segment, duration_s, f"segment {number}", changes)
        for number, segment in enumerate(segments)
    ]
    ordered = sorted(mended, key=lambda segment: segment.start_s)
    if ordered != mended:
        changes.append("segments were not in order of time: sorted")
    return ordered, changes


def as_text(segment: Segment) -> Segment:
    """The segment with every text as UTF-8 can hold it, and nothing else changed."""
    unheard: list[str] = []
    return msgspec.structs.replace(
        segment,
        text=_text(segment.text, "", unheard),
        speaker=segment.speaker and _text(segment.speaker, "", unheard),
        language=segment.language and _text(segment.language, "", unheard),
        words=tuple(
            msgspec.structs.replace(word, text=_text(word.text, "", unheard))
            for word in segment.words
        ),
    )


def segments_in(changes: Iterable[str]) -> int:
    """How many segments the lines of `clamp` are about; one where they were only sorted."""
    named = [line.partition(":")[0] for line in changes]
    return len({name for name in named if name.startswith("segment ")}) or min(len(named), 1)


def _segment(segment: Segment, duration_s: float, where: str, changes: list[str]) -> Segment:
    start, end = _span(segment.start_s, segment.end_s, duration_s, where, changes)
    words = [_word(word, duration_s, where, changes) for word in segment.words]
    ordered = sorted(words, key=lambda word: word.start_s)
    if ordered != words:
        changes.append(f"{where}: words were not in order of time: sorted")
    return Segment(
        start_s=start,
        end_s=end,
        text=_text(segment.text, where, changes),
        speaker=None if segment.speaker is None else _text(segment.speaker, where, changes),
        language=None if segment.language is None else _text(segment.language, where, changes),
        confidence=_confidence(segment.confidence, where, changes),
        words=tuple(ordered),
    )


def _word(word: Word, duration_s: float, where: str, changes: list[str]) -> Word:
    start, end = _span(word.start_s, word.end_s, duration_s, f"{where}: word", changes)
    return Word(start_s=start, end_s=end, text=_text(word.text, where, changes))


def _span(
    start: float, end: float, duration_s: float, where: str, changes: list[str]
) -> tuple[float, float]:
    new_start = _inside(start, 0.0, duration_s)
    new_end = _inside(end, new_start, duration_s)
    for name, old, new in (("start_s", start, new_start), ("end_s", end, new_end)):
        if not abs(new - old) < TOLERANCE:  # so put, a NaN is a change
            changes.append(f"{where}: {name} {old:.3f} became {new:.3f}")
    return new_start, new_end


def _inside(value: float, low: float, high: float) -> float:
    return low if math.isnan(value) else min(max(value, low), high)


def _confidence(value: float | None, where: str, changes: list[str]) -> float | None:
    if value is None or 0.0 <= value <= 1.0:
        return value
    new = None if math.isnan(value) else min(max(value, 0.0), 1.0)
    changes.append(f"{where}: confidence {value} became {new}")
    return new


def _text(text: str, where: str, changes: list[str]) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        changes.append(f"{where}: text held half a character: replaced")
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
