"""An engine that counts native objects: the drill, with a handle kept for every job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sttd.engines import Audio, Segment, TranscribeOptions
from sttd.engines.drill import Drill


class Handled(Drill):
    def __init__(self, options: Mapping[str, object]) -> None:
        super().__init__(options)
        self._sessions = 0

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        self._sessions += 1
        yield from super().transcribe(audio, options)

    def handles(self) -> Mapping[str, int]:
        return {"sessions": self._sessions, "recognizers": 0}
