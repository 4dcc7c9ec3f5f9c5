"""Loudness, frame by frame, and the stretches in which somebody speaks. Pure."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import mul

from sttd.engines import SAMPLE_RATE

FRAME_S = 0.02
FRAME_BYTES = round(SAMPLE_RATE * FRAME_S) * 2
SILENT_DB = -100.0  # what digital silence counts as; 16 bits reach down to -90
RISE_DB = 3.0 * FRAME_S  # the background is taken to grow louder by 3 dB a second at most


@dataclass(frozen=True)
class Sensitivity:
    """When a frame counts as speech, and when a stretch of it begins and ends."""

    margin_db: float = 12.0  # louder than the background by so much
    quietest_db: float = -45.0  # and in any case than this, against full scale
    shortest_s: float = 0.1  # shorter stretches are clicks
    pause_s: float = 0.5  # a stretch ends when it has been quiet for so long
    longest_s: float = 30.0  # or here: what was yielded is not lost when a job is killed

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("shortest_s", "pause_s", "longest_s"):
            if not 0 < getattr(self, name) < 3600:
                raise ValueError(f"{name} must be more than 0 and less than 3600 seconds")


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Frames of equal length, however the stream is cut; the last one may be shorter."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        whole = len(data) - len(data) % FRAME_BYTES
        for at in range(0, whole, FRAME_BYTES):
            yield data[at : at + FRAME_BYTES]
        rest = data[whole:]
    if rest:
        yield rest


def level_db(frame: bytes) -> float:
    """The loudness of signed 16-bit little-endian samples, in decibels against full scale."""
    samples = array("h", frame)
    if sys.byteorder == "big":
        samples.byteswap()
    power = sum(map(mul, samples, samples)) / len(samples)
    return 10 * math.log10(power / (1 << 30)) if power else SILENT_DB


def stretches(levels: Iterable[float], sensitivity: Sensitivity) -> Iterator[tuple[int, int]]:
    """The first frame of each stretch of speech and the one behind its last."""
    shortest, pause, longest = (
        max(1, round(seconds / FRAME_S))
        for seconds in (sensitivity.shortest_s, sensitivity.pause_s, sensitivity.longest_s)
    )
    background = SILENT_DB
    first, end = 0, 0  # of the current stretch; empty between two
    for number, level in enumerate(levels):
        background = min(level, background + RISE_DB)
        if level > max(background + sensitivity.margin_db, sensitivity.quietest_db):
            first = first if end else number
            end = number + 1
        if end and (number + 1 - end >= pause or number + 1 - first >= longest):
            if end - first >= shortest:
                yield first, end
            first, end = 0, 0
    if end - first >= shortest:
        yield first, end
