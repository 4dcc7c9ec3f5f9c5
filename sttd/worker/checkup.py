"""`sttd check-engine`: load the engine, let it check itself, transcribe two seconds of silence.

Runs in the calling process. Prints findings in plain words; changes nothing.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path

from sttd.config import Settings
from sttd.engines import Engine, EngineError, TranscribeOptions
from sttd.engines.loading import load
from sttd.worker.direct import DirectAudio

SILENCE_S = 2


class UnbuildableError(Exception):
    """The engine does not like its options, or misses what it needs."""


def check_up(settings: Settings) -> int:
    """0 when two seconds of silence were transcribed, 1 otherwise, each finding on a line."""
    name = settings.engine.name
    options = settings.engine.options_for(name)
    try:
        engine_class = load(name)
        check = _own_check(engine_class.__module__)
        if check is not None:
            return _tell(check(options))
        engine = _built(engine_class, options)
        with tempfile.TemporaryDirectory(prefix="sttd-") as folder:
            audio = DirectAudio(path=str(_silence(Path(folder))))
            said = list(engine.transcribe(audio, TranscribeOptions()))
            audio.close()
    except EngineError as error:
        return _tell([f"{name}: {type(error).__name__}: {error}"])
    except UnbuildableError as error:
        return _tell([f"{name}: {error}"])
    heard = f"{len(said)} segments" if said else "nothing, as it should"
    sys.stdout.write(f"{name} {engine.version}: two seconds of silence transcribed: {heard}\n")
    return 0


def _built(engine_class: type[Engine], options: Mapping[str, object]) -> Engine:
    """The engine; what it says of its options or its model is for the operator."""
    try:
        return engine_class(options)
    except ValueError as error:
        raise UnbuildableError(f"{error}") from error
    except Exception as error:  # an engine may raise anything
        raise UnbuildableError(f"{type(error).__name__}: {error}") from error


def _own_check(module: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 (an engine's own)
    """The engine's own `check(options) -> findings`, in a module `check` beside it, if any."""
    try:
        return importlib.import_module(f"{module}.check").check
    except ModuleNotFoundError:
        return None


def _tell(findings: Sequence[object]) -> int:
    """Print each; a finding may say of itself that it is good (`ok`)."""
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    return 0 if all(getattr(finding, "ok", False) for finding in findings) else 1


def _silence(folder: Path) -> Path:
    path = folder / "silence.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(32000 * SILENCE_S))
    return path
