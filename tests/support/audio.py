"""Recordings for engines, held in memory: 16 kHz mono PCM out of a wav file, or made here."""

from __future__ import annotations

import math
import struct
import wave
from collections.abc import Iterator
from pathlib import Path

from sttd.engines import BYTES_PER_SECOND, SAMPLE_RATE, EngineError

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared" / "audio"  # real recordings; not part of the project
RECORDINGS = REPOSITORY / "tests" / "recordings"  # the project's own


class PcmAudio:
    """Implements `sttd.engines.Audio` over bytes. `position_s` tells how much was handed out."""

    def __init__(
        self, pcm: bytes, *, name: str = "test.wav", start_s: float = 0.0, chunk: int = 1 << 16
    ) -> None:
        self.name = name
        self.path = name
        self.duration_s: float | None = len(pcm) / BYTES_PER_SECOND
        self.start_s = start_s
        self.position_s = start_s
        self.reports: list[EngineError] = []
        self._pcm = memoryview(pcm)
        self._chunk = chunk

    def __iter__(self) -> Iterator[bytes]:
        start = round(self.start_s * SAMPLE_RATE) * 2
        for at in range(start, len(self._pcm), self._chunk):
            piece = bytes(self._pcm[at : at + self._chunk])
            self.position_s = (at + len(piece)) / BYTES_PER_SECOND
            yield piece

    def report(self, error: EngineError) -> None:
        self.reports.append(error)


def read_wav(path: Path) -> bytes:
    """The samples of a 16 kHz mono 16-bit wav file."""
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return file.readframes(file.getnframes())


def silence(seconds: float) -> bytes:
    return bytes(round(seconds * SAMPLE_RATE) * 2)


def tone(seconds: float, hertz: float = 440.0) -> bytes:
    samples = range(round(seconds * SAMPLE_RATE))
    wave_form = (round(8000 * math.sin(math.tau * hertz * n / SAMPLE_RATE)) for n in samples)
    return b"".join(struct.pack("<h", value) for value in wave_form)


def edits(reference: list[str], said: list[str]) -> int:
    """Insertions, deletions and substitutions that turn one list of words into the other."""
    row = list(range(len(said) + 1))
    for count, wanted in enumerate(reference, 1):
        diagonal, row[0] = row[0], count
        for column, word in enumerate(said, 1):
            best = min(row[column] + 1, row[column - 1] + 1, diagonal + (wanted != word))
            diagonal, row[column] = row[column], best
    return row[-1]
