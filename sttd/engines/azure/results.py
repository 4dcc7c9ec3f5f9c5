"""From the service's JSON to segments, in order of time.

Text, words and language are read from the JSON of a final phrase, never from the SDK's
`result.text`: that goes through a buffer of 2,048 bytes. Pure: no SDK, no clock.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sttd.engines import Segment, Word

TICKS_PER_SECOND = 10_000_000  # offsets and durations are in units of 100 ns


class _Word(msgspec.Struct, rename="pascal"):
    word: str = ""
    offset: int = 0
    duration: int = 0


class _Best(msgspec.Struct, rename="pascal"):
    confidence: float | None = None
    display: str | None = ""
    words: list[_Word] | None = None


class _Language(msgspec.Struct, rename="pascal"):
    language: str | None = ""


class _Phrase(msgspec.Struct, rename="pascal"):
    """`speech.phrase` in detailed form, as much of it as is used.

    What may be left out may be null as well: services differ, and no word is lost for that.
    """

    recognition_status: str = "Success"
    display_text: str | None = ""
    offset: int = 0
    duration: int = 0
    speaker_id: str | None = ""
    primary_language: _Language | None = None
    n_best: list[_Best] | None = msgspec.field(name="NBest", default=None)


class BrokenResultError(Exception):
    """A final phrase that cannot be read: a part of the transcript is lost."""


class Results:
    """Makes segments of one session's phrases; seconds from the start of the recording."""

    def __init__(self, start_s: float, language: str | None, *, diarization: bool) -> None:
        self._start_s = start_s
        self._language = language
        self._diarization = diarization
        self._last: tuple[int, int, str] | None = None
        self._least_s = start_s

    def segment(self, body: str | bytes) -> Segment | None:
        """The segment of a final phrase; None for one without text and one said twice.

        After a reconnection the service may repeat the phrase before; two that begin at the same
        tick with the same text are one. A phrase that begins before its predecessor is moved to
        the predecessor's start: order holds, and no word is lost.

        Raises:
            BrokenResultError: the JSON cannot be read.
        """
        try:
            phrase = msgspec.json.decode(body, type=_Phrase)
        except msgspec.DecodeError as error:
            raise BrokenResultError(f"a phrase cannot be read: {error}") from None
        best = phrase.n_best[0] if phrase.n_best else _Best()
        text = (best.display or phrase.display_text or "").strip()
        key = (phrase.offset, phrase.duration, text)
        if phrase.recognition_status != "Success" or not text or key == self._last:
            return None
        self._last = key
        start_s = max(self._least_s, self._seconds(phrase.offset))
        self._least_s = start_s
        return Segment(
            start_s=start_s,
            end_s=max(start_s, self._seconds(phrase.offset + phrase.duration)),
            text=text,
            speaker=self._speaker(phrase.speaker_id),
            language=_language_of(phrase) or self._language,
            confidence=_unit(best.confidence),
            words=tuple(self._word(word, start_s) for word in best.words or () if word.word),
        )

    def _word(self, word: _Word, least_s: float) -> Word:
        start_s = max(least_s, self._seconds(word.offset))
        end_s = max(start_s, self._seconds(word.offset + word.duration))
        return Word(start_s=start_s, end_s=end_s, text=word.word)

    def _seconds(self, ticks: int) -> float:
        return round(self._start_s + ticks / TICKS_PER_SECOND, 4)

    def _speaker(self, label: str | None) -> str | None:
        """The service says Unknown while it has not made up its mind."""
        return label if self._diarization and label and label != "Unknown" else None


def _language_of(phrase: _Phrase) -> str:
    return (phrase.primary_language.language if phrase.primary_language else None) or ""


def _unit(confidence: Any) -> float | None:
    return None if confidence is None else min(1.0, max(0.0, float(confidence)))
