"""The segments a job has committed so far: spool/<..>/segments.jsonl, one JSON value a line.

Appended by the worker that holds the job, read by the next one, so that a killed attempt costs
what was not yet committed. A torn last line (the machine lost power) is cut off. It does not
decide whether to resume.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from sttd.transcripts import Segment
from sttd.wire.journal import NAME, Began, Line, Said

DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Journal:
    """Open for one attempt. `sessions` holds the earlier attempts that committed something."""

    def __init__(self, folder: Path, attempt: int, *, resume: bool) -> None:
        path = folder / NAME
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._encoder = msgspec.json.Encoder()
        self.sessions: list[tuple[float, list[Segment]]] = []
        self.start_s = 0.0
        if resume:
            self._read()
        else:
            os.ftruncate(self._fd, 0)
        self.said: list[Segment] = []
        self._write(Began(attempt, self.start_s))

    def _read(self) -> None:
        good = 0
        sessions: list[tuple[float, list[Segment]]] = []
        with os.fdopen(os.dup(self._fd), "rb") as file:
            for line in file:
                try:
                    value = DECODER.decode(line)
                except ValueError:  # no JSON, no UTF-8: torn
                    break
                if not line.endswith(b"\n"):
                    break
                good += len(line)
                if isinstance(value, Began):
                    sessions.append((value.start_s, []))
                elif sessions:
                    sessions[-1][1].append(value.segment)
                    self.start_s = max(self.start_s, _reached(value))
        os.ftruncate(self._fd, good)
        self.sessions = [session for session in sessions if session[1]]

    def commit(self, segment: Segment, heard_s: float | None = None) -> None:
        """From now on this segment survives the worker; `heard_s` as in `Said`."""
        self._write(Said(segment, heard_s))
        self.said.append(segment)

    def segments(self) -> list[Segment]:
        """All segments, those of earlier attempts first."""
        return [s for _, said in self.sessions for s in said] + self.said

    def resumed_at_s(self) -> tuple[float, ...]:
        """Where each later session began."""
        starts = [start for start, _ in self.sessions] + [self.start_s]
        return tuple(start for start in starts[1:] if start > 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, line: Line) -> None:
        left = memoryview(self._encoder.encode(line) + b"\n")
        while left:  # a disk that is nearly full takes a part, and says so at the next
            left = left[os.write(self._fd, left) :]


def _reached(said: Said) -> float:
    """Where to go on: nobody has heard what the engine had not been given, whatever end it told."""
    end_s = said.segment.end_s
    return end_s if said.heard_s is None else min(end_s, said.heard_s)
