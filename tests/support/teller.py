"""An engine for tests of streams: says what it is told, dies once, and says something else then."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping

from sttd.engines import Audio, Segment, TranscribeOptions


class Teller:
    """`marker`: whoever can create this file says `first` and dies; later ones say `second`.

    `unordered`: the segments' times go backwards. `resume` is the daemon's, not ours.
    """

    name = "teller"
    version = "1"

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        wishes = {**self._options, **options.extra}
        first = True
        if (marker := wishes.get("marker")) is not None:
            try:
                os.close(os.open(str(marker), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                first = False
        for _ in audio:
            pass
        texts = str(wishes.get("first" if first else "second", "")).split()
        places = [audio.start_s + n / 10 for n in range(len(texts))]
        if wishes.get("unordered"):
            places.reverse()
        for place, text in zip(places, texts, strict=True):
            yield Segment(start_s=place, end_s=place + 0.1, text=text)
        if first and marker is not None:
            os.kill(os.getpid(), signal.SIGKILL)
