"""Cut a stream of speech at its pauses, so that each piece can be recognised by itself.

Pure but for the voice detector it is handed; knows no recogniser. Its memory is half a second of
audio whatever the recording's length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from sttd.engines import SAMPLE_RATE

FRAME_MS = 30  # the longest frame that the WebRTC voice detector takes
FRAME_SAMPLES = SAMPLE_RATE * FRAME_MS // 1000
FRAME_BYTES = FRAME_SAMPLES * 2


class Piece(NamedTuple):
    """A stretch of an utterance. Pieces of one utterance follow one another without a gap."""

    at: int  # the first sample's place, counted in samples from the stream's start
    pcm: bytes
    last: bool  # the utterance ends here


class Pauses:
    """Tells speech from pauses, frame by frame.

    An utterance begins when `begin` of the last `window` frames are speech; it then includes
    these and the `lead` frames before them. It ends when none of the last `pause` frames is, or
    at the first frame without speech after `soft_cap` frames, or after `hard_cap` in any case.
    """

    def __init__(
        self,
        is_speech: Callable[[bytes], bool],
        *,
        window: int = 10,
        begin: int = 7,
        pause: int = 12,
        lead: int = 7,
        soft_cap: int = 20_000 // FRAME_MS,
        hard_cap: int = 30_000 // FRAME_MS,
    ) -> None:
        self._is_speech = is_speech
        self._recent: deque[bool] = deque(maxlen=window)
        self._before: deque[bytes] = deque(maxlen=window + lead)
        self._begin = begin
        self._pause = pause
        self._soft_cap = soft_cap
        self._hard_cap = hard_cap
        self._next = 0  # place of the next frame, in samples
        self._frames = 0  # of the current utterance; 0 between utterances
        self._quiet = 0  # frames without speech at its end

    def pieces(self, chunks: Iterable[bytes]) -> Iterator[Piece]:
        """The utterances of a 16 kHz 16-bit mono stream, whatever the size of its chunks."""
        rest = b""
        for chunk in chunks:
            data = rest + chunk
            whole = len(data) - len(data) % FRAME_BYTES
            for start in range(0, whole, FRAME_BYTES):
                yield from self._hear(data[start : start + FRAME_BYTES])
            rest = data[whole:]
        if self._frames:
            yield Piece(self._next, rest, last=True)

    def _hear(self, frame: bytes) -> Iterator[Piece]:
        speech = self._is_speech(frame)
        at = self._next
        self._next += FRAME_SAMPLES
        if self._frames:
            yield self._go_on(at, frame, speech=speech)
            return
        self._before.append(frame)
        self._recent.append(speech)
        if sum(self._recent) >= self._begin:
            self._frames = len(self._before)
            self._quiet = 0
            pcm = b"".join(self._before)
            self._before.clear()
            self._recent.clear()
            yield Piece(self._next - len(pcm) // 2, pcm, last=False)

    def _go_on(self, at: int, frame: bytes, *, speech: bool) -> Piece:
        self._frames += 1
        self._quiet = 0 if speech else self._quiet + 1
        last = (
            self._quiet >= self._pause
            or (not speech and self._frames >= self._soft_cap)
            or self._frames >= self._hard_cap
        )
        if last:
            self._frames = 0
        return Piece(at, frame, last)
