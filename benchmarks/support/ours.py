"""sttd as a contestant: daemons on drill, with the Speech SDK loaded in their workers."""

from __future__ import annotations

import contextlib
import json
import os
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sttd.client import Client, DaemonUnavailable
from tests.support.daemon import Daemon, daemon

T = TypeVar("T")
SDK = "azure.cognitiveservices.speech"
TICKS = os.sysconf("SC_CLK_TCK")
STEP_S = 0.005

Sections = dict[str, dict[str, object]]


def settings(**sections: Mapping[str, object]) -> Sections:
    """What all daemons here have; a benchmark's own sections go over it."""
    base: Sections = {
        "outbox": {"formats": ["json"]},
        "recycle": {"max_requests": 0, "rss_soft": 0, "sample_every": "0.25s"},
        "log": {"format": "json"},
        "engine": {"name": "drill"},
        "engine.options": {"imports": [SDK], "segments": 1, "read_audio": False},
    }
    for name, values in sections.items():
        base.setdefault(name, {}).update(values)
    return base


@contextmanager
def running(**sections: Mapping[str, object]) -> Iterator[Daemon]:
    """A daemon that is ready, with all its workers and its standby."""
    with daemon(**settings(**sections)) as one:
        one.start(wait=False)
        until(lambda: ended(one) or full(one), 60)
        assert not ended(one), one.log_path.read_text()[-3000:]
        yield one
        if not ended(one):
            one.stop()


def full(one: Daemon) -> bool:
    """Whether every worker and a standby are there and ready."""
    with contextlib.suppress(DaemonUnavailable), Client(one.endpoint) as client:
        states = [worker.state for worker in client.workers()]
        return "standby" in states and "starting" not in states
    return False


def ended(one: Daemon) -> bool:
    """Whether the daemon is gone."""
    return one.process is None or one.process.poll() is not None


def until(look: Callable[[], T], timeout_s: float) -> T:
    """The first true value. Raises TimeoutError."""
    end = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s:g} s")
        time.sleep(STEP_S)
    return found


def tiny_wav(path: Path) -> Path:
    """A tenth of a second of silence."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(3200))
    return path


def drop(one: Daemon, name: str, options: Mapping[str, object] | None = None) -> Path:
    """Put a recording into the inbox, by renaming; where its manifest will be."""
    inbox = one.state / "inbox"
    target = inbox / f"{name}.wav"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = tiny_wav(one.home / "next.part")
    if options is not None:
        sidecar = one.home / "next.json.part"
        sidecar.write_text(json.dumps({"options": options}))
        sidecar.rename(target.with_name(f"{target.name}.json"))
    part.rename(target)
    return one.state / "outbox" / f"{name}.json"


def tree(pid: int) -> list[int]:
    """The process and all that descend from it, those of today."""
    found = [pid]
    for one in found:
        for task in _entries(f"/proc/{one}/task"):
            try:
                text = Path(f"/proc/{one}/task/{task}/children").read_text()
            except OSError:
                continue
            found += [int(child) for child in text.split()]
    return found


def cpu_s(pid: int, *, reaped: bool) -> float:
    """CPU seconds of a process so far, with those of the children it reaped or without."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if reaped else 13])) / TICKS


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a CPU so far, all threads that live."""
    total = 0
    for task in _entries(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of all processes so far, those that are gone included."""
    return sum(cpu_s(one, reaped=True) for one in tree(pid))


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
