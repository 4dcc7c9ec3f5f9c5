"""What every benchmark writes: one JSON file with each repetition, and a table of percentiles.

Nothing here measures. `write` names what the figures were taken with: machine, versions, date,
load, and whether anything was pinned.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
OURS = ("apsw", "av", "msgspec", "pyzmq", "azure-cognitiveservices-speech")


def percentile(values: Iterable[float], percent: float) -> float:
    """By the nearest rank, so that it is a value that was seen; nan of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def p50(values: Iterable[float]) -> float:
    """The median by the nearest rank."""
    return percentile(values, 50)


def p99(values: Iterable[float]) -> float:
    """With fewer than 100 repetitions the worst one."""
    return percentile(values, 99)


def setting() -> dict[str, object]:
    """Where and when."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib()} GiB",
        "versions": {name: version(name) for name in OURS},
        "pinned": sorted(os.sched_getaffinity(0)) != list(range(os.cpu_count() or 1)),
        "load_at_start": os.getloadavg(),
    }


def write(name: str, body: Mapping[str, object]) -> Path:
    """Write benchmarks/results/NAME.json, whole or not at all; says where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    part = path.with_suffix(".tmp")
    part.write_text(json.dumps({**body, "load_at_end": os.getloadavg()}, indent=1) + "\n")
    part.rename(path)
    print(f"raw results: {path.relative_to(ROOT)}")
    return path


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(_cell(value) for value in row) + " |")


def json_bytes(value: object) -> bytes:
    """For files that others read."""
    return json.dumps(value).encode()


def say(text: str) -> None:
    """How far it is, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> int:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
