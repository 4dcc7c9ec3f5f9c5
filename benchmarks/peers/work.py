"""The jobs that all contestants do, made of the same misdeeds as sttd's engine `drill`.

Imports the standard library alone (and the Speech SDK where it says so), so that every peer's
workers can load it.
"""

from __future__ import annotations

import importlib.util
import mmap
import os
import time
from pathlib import Path
from types import ModuleType

SDK = "azure.cognitiveservices.speech"
ROOT = Path(__file__).resolve().parents[2]


def _load_misdeeds() -> ModuleType:
    """By path: the package around it needs what only sttd's own environment has."""
    path = ROOT / "sttd" / "engines" / "drill" / "misdeeds.py"
    spec = importlib.util.spec_from_file_location("misdeeds", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


misdeeds = _load_misdeeds()


def load_sdk() -> None:
    """For the initializers of pools."""
    importlib.import_module(SDK)


def burn_ms(milliseconds: float) -> int:
    """Use so much CPU; who did it."""
    misdeeds.burn(milliseconds / 1000)
    return os.getpid()


def spike(megabytes: float, seconds: float) -> int:
    """Hold so much and give it back; who did it."""
    misdeeds.spike(int(megabytes * misdeeds.MB), seconds)
    return os.getpid()


def rest(seconds: float) -> int:
    """Take time and no CPU."""
    time.sleep(seconds)
    return os.getpid()


def leak(trace: str, marker: str, rate: float, start: float, most: float) -> bool:
    """Leak up to `start` MB of RSS at once, then `rate` MB a second, `most` MB altogether.

    Whoever can create `marker` leaks; a second try does nothing. Each try writes to `trace` when it
    starts and then every 5 ms, as drill does.
    """
    log = misdeeds.Trace(trace)
    log.tick()
    try:
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        log.close()
        return False
    misdeeds.leak(max(0, int(start * misdeeds.MB) - rss()))
    steady = misdeeds.SteadyLeak(rate * misdeeds.MB, most * misdeeds.MB, 0.0)
    end = time.monotonic() + most / rate
    while time.monotonic() < end:
        steady.tick()
        log.tick()
        time.sleep(misdeeds.TICK_S)
    log.close()
    return True


def rss() -> int:
    """Resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * mmap.PAGESIZE
