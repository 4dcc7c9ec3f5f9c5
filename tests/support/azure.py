"""For tests of the Azure engine: recordings, an engine in a hurry, what a process holds."""

from __future__ import annotations

import gc
import itertools
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sttd.engines import EngineError, Segment, TranscribeOptions
from sttd.engines.azure import AzureEngine
from sttd.engines.azure.counting import alive
from tests.speech_service.marks import marked_pcm

# The audio flows as fast as it can; refusals are retried once, after 20 ms instead of 250.
HURRY = {
    "SPEECH-TransmitLengthBeforThrottleMs": "36000000",
    "SPEECH-MaxBufferSizeMs": "1800000",
    "SPEECH-Error-RetryDurationMS": "20",
    "SPEECH-Error-MaxRetryCount": "1",
}
CHUNK = 64 * 1024  # the largest an Audio hands out


class Recording:
    """An `Audio` of marks: every 100 ms of it carries its number."""

    def __init__(self, seconds: float, start_s: float = 0.0, pcm: bytes | None = None) -> None:
        self.name = "marks.wav"
        self.path = "/nowhere/marks.wav"
        self.duration_s: float | None = seconds
        self.start_s = start_s
        self.reports: list[EngineError] = []
        self.handed = 0  # bytes
        self._pcm = marked_pcm(seconds - start_s, start_s) if pcm is None else pcm

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, len(self._pcm), CHUNK):
            chunk = self._pcm[at : at + CHUNK]
            self.handed += len(chunk)
            yield chunk

    def report(self, error: EngineError) -> None:
        self.reports.append(error)


def engine_for(host: str, *, hurry: bool = True, **options: Any) -> AzureEngine:
    """An engine that talks to a local service; without `hurry`, at the SDK's own pace."""
    properties = (HURRY if hurry else {}) | options.pop("properties", {})
    given = {"host": host, "auth": "none", "properties": properties, "stall_timeout": 5.0}
    return AzureEngine(given | options)


def transcribe(
    engine: AzureEngine,
    recording: Recording,
    options: TranscribeOptions | None = None,
    into: list[Segment] | None = None,
) -> list[Segment]:
    """All segments; `into` keeps those that came before an error."""
    segments = into if into is not None else []
    segments.extend(engine.transcribe(recording, options or TranscribeOptions()))
    return segments


def heard(segments: list[Segment]) -> list[tuple[int, int]]:
    """The marks that a transcript of a `Recording` covers: first and last of each segment.

    Raises AssertionError where marks were missing inside a segment, or its times are not theirs.
    """
    found = []
    for segment in segments:
        assert "hole" not in segment.text, segment
        first, last = (int(part.removeprefix("m")) for part in segment.text.split("-"))
        assert first == math.floor(segment.start_s * 10 + 1e-6), segment
        assert last == math.ceil(segment.end_s * 10 - 1e-6) - 1, segment
        found.append((first, last))
    return found


def whole(segments: list[Segment], seconds: float, start_s: float = 0.0) -> bool:
    """Whether the segments cover the recording once, in order and without a hole."""
    heard(segments)
    bounds = [(start_s, start_s), *((s.start_s, s.end_s) for s in segments), (seconds, seconds)]
    return all(abs(a[1] - b[0]) < 1e-3 for a, b in itertools.pairwise(bounds))


def holdings() -> Mapping[str, int]:
    """What this process holds: live SDK objects, threads, descriptors, bytes of RSS.

    `objects` are those of Python, `natives` those that the SDK itself counts.
    """
    gc.collect()
    counts = Counter(map(type, gc.get_objects()))
    kinds = ("azure.cognitiveservices.speech", "sttd.engines.azure")
    objects = sum(n for kind, n in counts.items() if str(kind.__module__).startswith(kinds))
    for module, registry in (("native", "_listeners"), ("pull", "_readers")):
        loaded = sys.modules.get(f"sttd.engines.azure.{module}")
        objects += len(getattr(loaded, registry, ()))
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "objects": objects,
        "natives": sum(alive().values()),
        "threads": len(os.listdir("/proc/self/task")),
        "fds": len(os.listdir("/proc/self/fd")),
        "rss": resident,
    }
