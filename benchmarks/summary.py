"""The table of docs/benchmarks.md from benchmarks/results/*.json: `python -m benchmarks.summary`.

Prints what is there; a file that is missing leaves its rows out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks import throughput
from benchmarks.overshoot import RATES
from benchmarks.support import report

Row = list[object]


def load(name: str) -> dict[str, Any]:
    """A file of results; empty where there is none."""
    try:
        found: dict[str, Any] = json.loads((report.RESULTS / f"{name}.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def leaks() -> Iterator[Row]:
    """Overshoot, kill, retry."""
    figures = {
        "overshoot_percent": ("overshoot at {} MB/s, % of 400 MiB", "<= 1 / 2 at 200 MB/s"),
        "crossing_to_kill_ms": ("crossing to SIGKILL at {} MB/s, ms", "<= 15 / 40"),
        "gone_to_assigned_ms": ("reapable to the job given out, {} MB/s, ms", "<= 3"),
        "gone_to_retry_ms": ("reapable to the engine running, {} MB/s, ms", "<= 3"),
    }
    systems = load("overshoot").get("repetitions", {})
    for key, (title, target) in figures.items():
        for rate in RATES:
            cells = []
            for name, repetitions in systems.items():
                values = [
                    r[key] for r in repetitions if r["rate"] == rate and r.get(key) is not None
                ]
                if values:
                    middle, worst = report.p50(values), report.p99(values)
                    cells.append(f"{name} {middle:.1f} / {worst:.1f} (n {len(values)})")
            if cells:
                yield [title.format(rate), target, "; ".join(cells)]
    watching = load("overshoot").get("idle_percent", {})
    cells = [f"{name} {report.p50(some):.2f}" for name, some in watching.items()]
    if cells:
        yield ["what watching costs, % of a core, p50", "", "; ".join(cells)]


def rates() -> Iterator[Row]:
    """Throughput, and the CPU of a recycle."""
    for name, rounds in load("throughput").get("rounds", {}).items():
        _, note, off, on, ratio, cpu, recycle = throughput.summary(name, rounds)
        text = f"{off:.3g} jobs/s, recycling {on:.3g}, ratio {ratio:.3g} (rounds {note})"
        text += f"; CPU {cpu:.3g} ms a job, {recycle:.3g} a recycle"
        target = ">= 0.99" if "1 s" in name else ">= 0.93; >= 120 jobs/s; <= 5 ms a recycle"
        yield [f"throughput: {name}", target if name.startswith("sttd") else "", text]


def others() -> Iterator[Row]:
    """The rest."""
    for name, seconds in load("fork_ready").get("seconds", {}).items():
        text = f"{1000 * report.p50(seconds):.1f} / {1000 * report.p99(seconds):.1f}"
        target = "<= 6" if name == "sttd" else ""
        yield [f"fork to Ready: {name}, ms", target, f"{text} (n {len(seconds)})"]
    cpu = load("supervisor_cpu")
    for what in ("idle", "busy") if cpu else ():
        values = cpu[f"{what}_percent"]
        text = f"{report.p50(values):.2f} / {report.p99(values):.2f} (n {len(values)})"
        yield [
            f"supervisor CPU, {what}, 8 workers, % of a core",
            "<= 1.5" if what == "idle" else "",
            text,
        ]
    if long := load("endurance"):
        first, last = long["samples"][0], long["samples"][-1]
        text = f"{last['rss_mib']} MiB, grown by {last['rss_mib'] - first['rss_mib']:.2f} since "
        text += f"{first['jobs']} jobs; descriptors {first['fds']} to {last['fds']}, threads "
        text += f"{first['threads']} to {last['threads']}, zombies {last['zombies']}"
        title = f"supervisor after {last['jobs']} jobs, {last['recycles']} recycles"
        yield [title, "<= 50 MiB, <= 1 MiB", text]
    if none := load("false_recycles"):
        for name, counts in none["false_recycles"].items():
            if isinstance(counts, list):
                yield [f"false recycles: {name}", "0", f"{sum(counts)} ({len(counts)} rounds)"]
        for name, kills in none["orphans"].items():
            left = [kill["orphans"] for kill in kills if "failed" not in kill]
            yield [f"orphans: {name}", "0", f"{sum(left)} over {len(left)} kills"]
        once = none["replaced_at_once"]
        text = f"{once['beyond']} in {once['recycles']} recycles"
        yield ["workers replaced at once beyond one", "0", text]


def main() -> None:
    """Print it."""
    report.table(["figure, p50 / p99", "to reach", "measured"], [*leaks(), *rates(), *others()])


if __name__ == "__main__":
    main()
