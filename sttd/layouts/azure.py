"""The result layout of Azure's batch transcription, for those who have tools that read it.

Built after the service's published schema `transcriptionresult_v2024-11-15.schema.json`. Where
the service tells more than sttd knows, the nearest true thing is written: lexical, ITN and masked
ITN forms are the display text in lower case without punctuation; confidence is 0 where the engine
gave none (the service does the same), and a word's confidence is its phrase's.
"""

from __future__ import annotations

import re
import unicodedata

import msgspec

from sttd.transcripts import Segment, Transcript, Word

TICKS_PER_MS = 10_000  # a tick is 100 ns
CHANNEL = 0  # sttd mixes every recording down to one
_GUEST = re.compile(r"Guest-(\d{1,9})", re.ASCII)
_UNKNOWN = "Unknown"  # the service's label for a voice that it could not tell apart


def azure(transcript: Transcript) -> bytes:
    """`meeting.azure.json`; phrases without text are left out, as the service does."""
    segments = [segment for segment in transcript.segments if segment.text.strip()]
    speakers = _numbers([segment.speaker for segment in segments if segment.speaker])
    lexical = " ".join(_lexical(segment.text) for segment in segments)
    result = {
        "source": " ".join(transcript.source.name.split()),
        "timestamp": transcript.created,
        **_extent("duration", transcript.source.duration_s),
        "combinedRecognizedPhrases": [
            {"channel": CHANNEL, **_forms(lexical, " ".join(s.text.strip() for s in segments))}
        ],
        "recognizedPhrases": [_phrase(segment, speakers) for segment in segments],
    }
    return msgspec.json.encode(result) + b"\n"


def _phrase(segment: Segment, speakers: dict[str, int]) -> dict[str, object]:
    confidence = round(segment.confidence or 0.0, 6)
    best: dict[str, object] = {
        "confidence": confidence,
        **_forms(_lexical(segment.text), segment.text.strip()),
    }
    if segment.words:
        best["words"] = [_word(word, confidence) for word in segment.words]
    phrase: dict[str, object] = {"recognitionStatus": "Success", "channel": CHANNEL}
    if segment.speaker:
        phrase["speaker"] = speakers[segment.speaker]
    if segment.language:
        phrase["locale"] = segment.language
    return {**phrase, **_place(segment.start_s, segment.end_s), "nBest": [best]}


def _word(word: Word, confidence: float) -> dict[str, object]:
    return {
        "word": " ".join(word.text.split()),
        **_place(word.start_s, word.end_s),
        "confidence": confidence,
    }


def _forms(lexical: str, display: str) -> dict[str, str]:
    return {"lexical": lexical, "itn": lexical, "maskedITN": lexical, "display": display}


def _place(start_s: float, end_s: float) -> dict[str, object]:
    start_ms, end_ms = round(start_s * 1000), round(end_s * 1000)
    return {**_extent("offset", start_ms / 1000), **_extent("duration", (end_ms - start_ms) / 1000)}


def _extent(name: str, seconds: float) -> dict[str, object]:
    milliseconds = round(seconds * 1000)
    return {
        name: _iso_duration(milliseconds),
        f"{name}InTicks": milliseconds * TICKS_PER_MS,
        f"{name}Milliseconds": milliseconds,
    }


def _iso_duration(milliseconds: int) -> str:
    """ISO 8601 as the service writes it: PT0S, PT4.12S, PT1H1M1.4S."""
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 1000}.{rest % 1000:03}".rstrip("0").rstrip(".")
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""]
    if rest or not milliseconds:
        parts.append(f"{seconds}S")
    return "PT" + "".join(parts)


def _lexical(text: str) -> str:
    """Lower case, no punctuation save inside a word (it's, co-operate), single spaces."""
    words = (_strip_punctuation(word) for word in text.lower().split())
    return " ".join(word for word in words if word)


def _strip_punctuation(word: str) -> str:
    start, end = 0, len(word)
    while start < end and unicodedata.category(word[start]).startswith("P"):
        start += 1
    while end > start and unicodedata.category(word[end - 1]).startswith("P"):
        end -= 1
    return word[start:end]


def _numbers(labels: list[str]) -> dict[str, int]:
    """Speakers as integers: Guest-3 is 3, Unknown is 0, any other label the next free number.

    So the labels of a resumed session (2/Guest-1) never pass for those of the first.
    """
    numbers = {
        label: int(found[1]) for label in labels if (found := _GUEST.fullmatch(label)) is not None
    }
    if _UNKNOWN in labels:
        numbers[_UNKNOWN] = 0
    free = max(numbers.values(), default=0) + 1
    for label in labels:
        if label not in numbers:
            numbers[label] = free
            free += 1
    return numbers
