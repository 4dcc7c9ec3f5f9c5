"""A piece of a job's journal, for who listens to it while the job runs. Reads; decides nothing.

A cursor says which incarnation of the journal was read (the attempt that began it), how far in
bytes, and a checksum of the last bytes before that place. So a journal that was begun anew, or
that a power cut has shortened, is noticed, and nobody is told what contradicts what he has.
Keeps nothing open in between; memory is bounded by PIECE, or by one line where it is longer.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from sttd.transcripts import Segment
from sttd.wire.journal import Began, Line

PIECE = 256 * 1024  # bytes of journal in one answer
MOST_OF_A_LINE = 4 << 20  # a segment longer than that is left to the transcript
HEAD = 4096  # more than the first line has
TAIL = 64  # bytes before the cursor that are compared

_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_CURSOR = re.compile(r"(\d{1,9})\.(\d{1,15})\.(\d{1,10})")


class Cursor(NamedTuple):
    """How far somebody has read: behind the byte `offset` of the journal begun by `attempt`."""

    attempt: int
    offset: int
    checksum: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The cursor in a request; None for "". Raises ValueError when it was never one of ours."""
        if not text:
            return None
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} is no cursor; take that of the reply before, or an empty one"
            )
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.attempt}.{self.offset}.{self.checksum}"


class Piece(NamedTuple):
    """What was read; `restarted`: from the start, because the cursor is of another journal."""

    segments: tuple[Segment, ...]
    cursor: Cursor | None
    restarted: bool = False


def read(journal: Path, cursor: Cursor | None) -> Piece:
    """The whole lines behind the cursor, about PIECE bytes of them. Blocks; raises OSError.

    Without a journal, or one that has only just been made, there is nothing new.
    """
    try:
        file = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return Piece((), cursor)
    try:
        attempt = _begun_by(file)
        if attempt is None:
            return Piece((), cursor)
        valid = cursor is not None and _fits(file, cursor, attempt)
        start = cursor.offset if cursor is not None and valid else 0
        segments, length = _segments(_lines(file, start))
        offset = start + length
        return Piece(
            segments,
            Cursor(attempt, offset, _checksum(file, offset)),
            restarted=cursor is not None and not valid,
        )
    finally:
        os.close(file)


def _begun_by(file: int) -> int | None:
    first, newline, _ = os.pread(file, HEAD, 0).partition(b"\n")
    try:
        line = _decoder.decode(first) if newline else None
    except ValueError:  # no JSON, no UTF-8: torn
        return None
    return line.attempt if isinstance(line, Began) else None


def _fits(file: int, cursor: Cursor, attempt: int) -> bool:
    if cursor.attempt != attempt or os.fstat(file).st_size < cursor.offset:
        return False
    return _checksum(file, cursor.offset) == cursor.checksum


def _checksum(file: int, offset: int) -> int:
    start = max(0, offset - TAIL)
    return zlib.crc32(os.pread(file, offset - start, start))


def _lines(file: int, start: int) -> bytes:
    """Bytes from `start` that end with a whole line; empty when there is none yet."""
    size = PIECE
    while True:
        data = os.pread(file, size, start)
        end = data.rfind(b"\n") + 1
        if end or len(data) < size or size >= MOST_OF_A_LINE:
            return data[:end]
        size *= 4


def _segments(lines: bytes) -> tuple[tuple[Segment, ...], int]:
    """The segments in whole lines, and the bytes up to the first line that is torn, if one is."""
    segments: list[Segment] = []
    length = 0
    for line in lines.splitlines(keepends=True):
        try:
            value = _decoder.decode(line)
        except ValueError:
            break
        length += len(line)
        if not isinstance(value, Began):
            segments.append(value.segment)
    return tuple(segments), length
