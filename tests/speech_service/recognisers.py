"""What turns the audio received into phrases: by its content's marks, or PocketSphinx for real.

A recogniser hears one turn. Offsets are bytes from the beginning of that turn; the server makes
ticks of them. Nothing here knows of messages or sockets.
"""

from __future__ import annotations

import array
import dataclasses
import itertools
import threading
from typing import Protocol

import pocketsphinx

from tests.speech_service.marks import MARK_BYTES, MARK_PERIOD


@dataclasses.dataclass(frozen=True)
class Spoken:
    """A word or a phrase: where it is, in bytes from the beginning of the turn."""

    start: int
    end: int
    text: str
    words: tuple[Spoken, ...] = ()


class Recogniser(Protocol):
    """Hears one turn."""

    def hear(self, pcm: bytes) -> list[Spoken]:
        """Take more audio; return the phrases that are final by now."""
        ...

    def finish(self) -> list[Spoken]:
        """The audio is at its end; return what is left."""
        ...


class Marks:
    """Reads the marks of `marked_pcm`: phrases of a fixed length whose text names what was heard.

    The text "m20-m39" says that exactly these blocks were heard, each once and in order; "hole" in
    it says that they were not.
    """

    def __init__(self, phrase_s: float = 2.0) -> None:
        self._phrase = int(phrase_s * 10) * MARK_BYTES
        self._pending = bytearray()
        self._start = 0

    def hear(self, pcm: bytes) -> list[Spoken]:
        """Every full phrase becomes final at once."""
        self._pending += pcm
        found = []
        while len(self._pending) >= self._phrase:
            found.append(self._phrase_of(self._phrase))
        return found

    def finish(self) -> list[Spoken]:
        """The rest is a shorter phrase."""
        return [self._phrase_of(len(self._pending))] if self._pending else []

    def _phrase_of(self, length: int) -> Spoken:
        pcm = bytes(self._pending[:length])
        del self._pending[:length]
        start, self._start = self._start, self._start + length
        runs = [(mark, len(list(run))) for mark, run in itertools.groupby(array.array("h", pcm))]
        follows = all(b == a % MARK_PERIOD + 1 for (a, _), (b, _) in itertools.pairwise(runs))
        full = all(count == MARK_BYTES // 2 for _, count in runs[1:-1])
        hole = "" if follows and full else " hole"
        text = f"m{runs[0][0] - 1}-m{runs[-1][0] - 1}{hole}"
        word = Spoken(start, start + length, text)
        return Spoken(start, start + length, text, (word,))


class PocketSphinx:
    """Recognises for real with the model in PocketSphinx's wheel; English, at speech pauses."""

    _models = threading.local()

    def __init__(self) -> None:
        self._endpointer = pocketsphinx.Endpointer(sample_rate=16_000)
        self._pending = bytearray()
        self._speech = bytearray()
        self._start_s = 0.0

    def hear(self, pcm: bytes) -> list[Spoken]:
        """A phrase is final at the pause after it."""
        self._pending += pcm
        size, found = self._endpointer.frame_bytes, []
        while len(self._pending) > size:  # keeps the last: end_stream needs it
            frame = bytes(self._pending[:size])
            del self._pending[:size]
            found += self._frame(self._endpointer.process(frame))
        return found

    def finish(self) -> list[Spoken]:
        """Whatever speech is left."""
        return self._frame(self._endpointer.end_stream(bytes(self._pending)))

    def _frame(self, speech: bytes | None) -> list[Spoken]:
        if speech is not None:
            if not self._speech:
                self._start_s = self._endpointer.speech_start
            self._speech += speech
        if not self._speech or self._endpointer.in_speech:
            return []
        phrase = self._decode(bytes(self._speech), int(self._start_s * 16_000) * 2)
        self._speech.clear()
        return [phrase] if phrase.words else []

    @classmethod
    def _decode(cls, pcm: bytes, start: int) -> Spoken:
        model = getattr(cls._models, "decoder", None)
        if model is None:
            model = cls._models.decoder = pocketsphinx.Decoder(loglevel="FATAL")
        model.reinit_feat()  # forgets the voice before: the same audio gives the same words
        model.start_utt()
        model.process_raw(pcm, full_utt=True)
        model.end_utt()
        frame = 320  # 10 ms
        words = tuple(
            Spoken(
                start + w.start_frame * frame,
                start + (w.end_frame + 1) * frame,
                w.word.split("(")[0],
            )
            for w in model.seg()
            if not w.word.startswith(("<", "["))
        )
        return Spoken(start, start + len(pcm), " ".join(w.text for w in words), words)
