"""`sttd run-once --in-process`: the engine here, without template, worker or decoder process.

For debugging one engine with a debugger or a profiler. No limits on memory, no retry, no walls.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sttd.config import Settings
from sttd.engines import Engine, EngineError, TranscribeOptions
from sttd.engines.loading import EngineLoadError, load
from sttd.wire.messages import DecodeLimits
from sttd.worker.direct import DirectAudio

EX_FAILED, EX_CONFIG = 1, 2


def transcribe_here(settings: Settings, audio: Sequence[Path], *, as_json: bool) -> int:
    """Print each segment as it comes; 0, 1 when a file failed, or 2 without an engine.

    What an engine means to say is a line. Any other exception of it shows its stack.
    """
    try:
        engine_class = load(settings.engine.name)
    except EngineLoadError as error:
        return _complain(f"{error}", EX_CONFIG)
    try:
        engine = engine_class(settings.engine.options_for(settings.engine.name))
    except ValueError as error:  # of its options, or its model
        return _complain(f"{settings.engine.name}: {error}", EX_CONFIG)
    limits = DecodeLimits(
        max_duration_s=settings.limits.max_duration, max_channels=settings.limits.max_channels
    )
    begin, end = getattr(engine, "begin_worker", None), getattr(engine, "end_worker", None)
    if begin is not None:
        begin()
    code = 0
    for path in audio:
        try:
            _print(engine, path, limits, as_json=as_json)
        except EngineError as error:
            code = _complain(f"{path}: {error}", EX_FAILED)
    if end is not None:
        end()
    return code


def _print(engine: Engine, path: Path, limits: DecodeLimits, *, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415 (only for --json)

    stream = DirectAudio(path=str(path), name=path.name, limits=limits)
    try:
        for segment in engine.transcribe(stream, TranscribeOptions()):
            line = msgspec.json.encode(segment).decode() if as_json else segment.text
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    finally:
        stream.close()


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"sttd: {message}\n")
    return code
