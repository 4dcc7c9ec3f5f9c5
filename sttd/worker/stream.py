"""What both ends of a PCM stream know: its chunks, its refusal, and how progress is told.

Light: a worker imports this, and its memory is the engine's. No FFmpeg, no process, no file.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable

from sttd.engines import BYTES_PER_SECOND, EngineError, InvalidAudioError

CHUNK = 1 << 16  # bytes; what an engine gets at once at most, about two seconds
# Containers, by FFmpeg's names, whose header gives the length, if any; elsewhere it is a guess from
# the bit rate.
EXACT_LENGTH = frozenset({"wav", "w64", "aiff", "flac", "ogg", "mov", "matroska"})


class UndecodableError(InvalidAudioError):
    """This recording cannot be decoded; `code` is an error code of docs/protocol.md."""

    def __init__(self, message: str, code: str = "undecodable") -> None:
        super().__init__(message)
        self.code = code


class Listening:
    """The part of `sttd.engines.Audio` that does not depend on where the samples come from.

    `on_progress(position_s)` is called at most every `interval_s` seconds of `clock`, by the
    thread that reads, and later where somebody has `told` of the position meanwhile;
    `on_report(error)` for each `report`.
    """

    def __init__(
        self,
        *,
        path: str,
        name: str,
        start_s: float,
        on_progress: Callable[[float], None],
        on_report: Callable[[EngineError], None],
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.name = name
        self.start_s = start_s
        self.duration_s: float | None = None
        self._given = 0  # bytes
        self.damage = ""  # what could not be decoded, known at the end
        self._counted_s: float | None = None  # the true duration, known at the end
        self._on_progress = on_progress
        self._on_report = on_report
        self._interval_s = interval_s
        self._clock = clock
        self._told = clock()  # a recording shorter than an interval is not worth a message

    @property
    def position_s(self) -> float:
        """Seconds from the recording's start to the end of what was handed out so far."""
        return self.start_s + self._given / BYTES_PER_SECOND

    @property
    def heard_s(self) -> float | None:
        """`position_s`, or None as long as nothing was handed out: some engines read `path`."""
        return self.position_s if self._given else None

    @property
    def total_s(self) -> float:
        """The recording's duration: as counted, or the best guess if it was not read to its end."""
        if self._counted_s is not None:
            return self._counted_s
        return max(self.position_s, self.duration_s or 0.0)

    def report(self, error: EngineError) -> None:
        """Tell the daemon of the service's state now, before a clean-up that takes long."""
        self._on_report(error)

    def told(self) -> None:
        """The position was told along with something else: no need to say it again soon."""
        self._told = self._clock()

    def _handed_out(self, count: int) -> None:
        self._given += count
        self._tell(self.position_s)

    def _tell(self, position_s: float) -> None:
        now = self._clock()
        if now - self._told >= self._interval_s:
            self._told = now
            self._on_progress(position_s)


def open_audio(path: str) -> int:
    """A descriptor of the recording. Raises OSError; UndecodableError for what is no file."""
    # O_NONBLOCK: opening a FIFO must not wait; it means nothing for a regular file
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UndecodableError(f"{path} is not a regular file")
    return fd
