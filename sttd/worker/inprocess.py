"""`sttd run-once --in-process`: the engine here, without template, worker or decoder process.

For debugging one engine with a debugger or a profiler. No limits on memory, no retry, no walls.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sttd.config import Settings
from sttd.engines import TranscribeOptions
from sttd.engines.loading import load
from sttd.wire.messages import DecodeLimits
from sttd.worker.direct import DirectAudio


def transcribe_here(settings: Settings, audio: Sequence[Path], *, as_json: bool) -> int:
    """Print each segment as it comes; 0, or 1 when a file failed. Exceptions show their stack."""
    import msgspec  # noqa: PLC0415 (only for --json)

    engine_class = load(settings.engine.name)
    engine = engine_class(settings.engine.options_for(settings.engine.name))
    limits = DecodeLimits(
        max_duration_s=settings.limits.max_duration, max_channels=settings.limits.max_channels
    )
    begin, end = getattr(engine, "begin_worker", None), getattr(engine, "end_worker", None)
    if begin is not None:
        begin()
    for path in audio:
        stream = DirectAudio(path=str(path), name=path.name, limits=limits)
        try:
            for segment in engine.transcribe(stream, TranscribeOptions()):
                line = msgspec.json.encode(segment).decode() if as_json else segment.text
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
        finally:
            stream.close()
    if end is not None:
        end()
    return 0
