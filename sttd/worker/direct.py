"""A recording decoded in the same process, without a companion: for debugging and contract tests.

Same samples, same limits, no walls: only for recordings that one trusts. A worker must not import
this (FFmpeg's libraries come with it).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from sttd.engines import EngineError
from sttd.wire.messages import DecodeLimits
from sttd.worker.pcm import open_recording
from sttd.worker.stream import Listening, UndecodableError, open_audio

TRUSTING = DecodeLimits(max_duration_s=24 * 3600.0, max_channels=8)


def _ignore(_told: object) -> None:
    """Nobody listens."""


class DirectAudio(Listening):
    """Implements `sttd.engines.Audio`; as `DecodedAudio`, but iterated where it was made.

    The constructor and the iteration raise UndecodableError, the constructor also OSError.
    """

    def __init__(
        self,
        *,
        path: str,
        name: str = "",
        start_s: float = 0.0,
        limits: DecodeLimits = TRUSTING,
        on_progress: Callable[[float], None] = _ignore,
        on_report: Callable[[EngineError], None] = _ignore,
        interval_s: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            path=path,
            name=name or os.path.basename(path),
            start_s=start_s,
            on_progress=on_progress,
            on_report=on_report,
            interval_s=interval_s,
            clock=clock,
        )
        self._fd = open_audio(path)
        try:
            self._recording = open_recording(self._fd, limits, self._tell)
        except UndecodableError as error:
            self._release()
            raise UndecodableError(f"{self.name}: {error}", error.code) from error
        self.duration_s = self._recording.probed.duration_s

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._recording.pcm(self.start_s, self._tell):
                self._handed_out(len(chunk))
                yield chunk
        except UndecodableError as error:
            raise UndecodableError(f"{self.name}: {error}", error.code) from error
        self._counted_s = self._recording.position_s
        self.damage = self._recording.damage

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._recording.close()
        self._release()

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
