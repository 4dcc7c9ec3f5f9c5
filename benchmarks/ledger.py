"""How fast the ledger is: `python -m benchmarks.ledger [--rows N] [--folder DIR]` prints JSON.

Commits a second one after the other and in groups; CPU microseconds an operation costs the whole
process through the asyncio facade when each has a commit of its own, once as it is and once with
the fsync switched off (the difference is the kernel's work for the fsync, not waiting: waiting
costs no CPU). With --rows the ledger is filled first, which must change nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import apsw

from sttd.core.jobs import Job
from sttd.supervisor.ledger import Ledger
from sttd.supervisor.records import EventRow, NewJob, Signature

T = TypeVar("T")

OPERATIONS = 2000
GROUPS = 8
GROUPED = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=0, help="finished jobs in the ledger at first")
    parser.add_argument("--folder", type=Path, help="where (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report = asyncio.run(measure(Path(folder) / "ledger" / "sttd.db", options.rows))
    json.dump(report, sys.stdout, indent=1)
    print()


async def measure(path: Path, rows: int) -> dict[str, object]:
    report: dict[str, object] = {
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "rows": rows,
    }
    ledger = open_ledger(path)
    ledger.start(print)
    if rows:
        await fill(ledger, rows)
    report["handover_cpu_us"] = await handover()
    report["one_by_one"] = await one_by_one(ledger, 0)
    connection(ledger).execute("PRAGMA synchronous = OFF")
    report["one_by_one_without_fsync"] = await one_by_one(ledger, 1)
    connection(ledger).execute("PRAGMA synchronous = FULL")
    report["grouped"] = await grouped(ledger, 2)
    report["same_name_us_each"] = await same_name(ledger)
    report["events_us_each"] = await events(ledger)
    started = time.perf_counter()
    await ledger.close()
    report["close_s"] = round(time.perf_counter() - started, 3)
    started = time.perf_counter()
    ledger = open_ledger(path)
    report["open_with_quick_check_s"] = round(time.perf_counter() - started, 3)
    await ledger.close()
    return report


def open_ledger(path: Path) -> Ledger:
    return Ledger.open(
        path,
        boot_id="benchmark",
        now_boottime_ns=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        now_wall_ns=time.time_ns,
        ballast_bytes=0,
    )


def connection(ledger: Ledger) -> apsw.Connection:
    return ledger._store.connection  # noqa: SLF001 - to switch the fsync off


def job(number: int, series: int, stem: str | None = None) -> NewJob:
    name = f"calls/2031-05-17/recording-{series}-{number}.wav"
    return NewJob(
        id=f"0196d{series:03x}-{number >> 16:04x}-7{number & 0xFFF:03x}-8000-{number:012x}",
        kind="inbox",
        name=name,
        signature=Signature(2049, 1 << 40 | number, 480_044, time.time_ns(), time.time_ns()),
        stem=stem or name.removesuffix(".wav"),
    )


async def handover() -> float:
    """CPU microseconds of a bare question to a thread and back: the floor of any such facade."""
    loop = asyncio.get_running_loop()
    asked: queue.SimpleQueue[asyncio.Future[None] | None] = queue.SimpleQueue()

    def answer() -> None:
        while (future := asked.get()) is not None:
            loop.call_soon_threadsafe(future.set_result, None)

    thread = threading.Thread(target=answer)
    thread.start()
    meter = Meter()
    for _ in range(OPERATIONS):
        future: asyncio.Future[None] = loop.create_future()
        asked.put(future)
        await meter.run(future)
    asked.put(None)
    thread.join()
    return round(meter.cpu / OPERATIONS * 1e6, 1)


async def fill(ledger: Ledger, rows: int) -> None:
    """Finished, disposed jobs."""
    for start in range(0, rows, 1000):
        new = [job(number, 9) for number in range(start, min(rows, start + 1000))]
        await ledger.begin(new)
        await ledger.accept([each.id for each in new])
        claimed = await ledger.claim(len(new))
        await asyncio.gather(*(finish(ledger, each) for each in claimed))


async def finish(ledger: Ledger, claimed: Job) -> None:
    await ledger.succeed(
        claimed.id,
        claimed.token,
        outputs=[f"{claimed.out_name}.{end}" for end in ("txt", "srt", "vtt", "json")],
        duration_s=15.0,
        sha256="0" * 64,
        segments=3,
    )
    await ledger.disposed(claimed.id, f"done/{claimed.name}")


async def one_by_one(ledger: Ledger, series: int) -> dict[str, dict[str, float]]:
    """Whole lives of jobs, one after the other: each operation has a commit of its own."""
    meters = {
        name: Meter()
        for name in ("begin", "accept", "claim", "succeed", "disposed", "counts", "job")
    }
    for number in range(OPERATIONS):
        new = job(number, series)
        outputs = [f"{new.stem}.{end}" for end in ("txt", "srt", "vtt", "json")]
        await meters["begin"].run(ledger.begin([new]))
        await meters["accept"].run(ledger.accept([new.id]))
        (claimed,) = await meters["claim"].run(ledger.claim(1))
        await meters["succeed"].run(
            ledger.succeed(
                new.id,
                claimed.token,
                outputs=outputs,
                duration_s=15.0,
                sha256="0" * 64,
                segments=3,
            )
        )
        await meters["disposed"].run(ledger.disposed(new.id, f"done/{new.name}"))
        await meters["counts"].run(ledger.counts())
        await meters["job"].run(ledger.job(new.id))
    return {name: figures(meter.wall, meter.cpu, OPERATIONS) for name, meter in meters.items()}


class Meter:
    """Wall and CPU seconds (of all threads) spent in what was awaited through it."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0

    async def run(self, asked: Awaitable[T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        answer = await asked
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall
        return answer


def figures(wall: float, cpu: float, count: int) -> dict[str, float]:
    return {"per_second": round(count / wall), "cpu_us": round(cpu / count * 1e6, 1)}


async def grouped(ledger: Ledger, series: int) -> dict[str, dict[str, float]]:
    """GROUPED at a time are asked together: they share commits."""
    new = [job(number, series) for number in range(GROUPS * GROUPED)]
    packs = [new[start : start + GROUPED] for start in range(0, len(new), GROUPED)]
    report: dict[str, dict[str, float]] = {}
    for name, one in (
        ("begin", lambda each: ledger.begin([each])),
        ("accept", lambda each: ledger.accept([each.id])),
        ("cancel", lambda each: ledger.cancel(each.id, None)),
        ("disposed", lambda each: ledger.disposed(each.id, None)),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        for pack in packs:
            await asyncio.gather(*(one(each) for each in pack))
        report[name] = figures(time.perf_counter() - wall, time.process_time() - cpu, len(new))
    return report


async def same_name(ledger: Ledger) -> float:
    """Wall microseconds a job when all wish for one output name, 1000 to a call."""
    many = 20_000
    started = time.perf_counter()
    for start in range(0, many, 1000):
        await ledger.begin([job(number, 3, "same") for number in range(start, start + 1000)])
    return round((time.perf_counter() - started) / many * 1e6, 1)


async def events(ledger: Ledger) -> float:
    """CPU microseconds an event costs, written in bulk."""
    many = 10_000
    rows = [
        EventRow(
            at_ns=time.time_ns(),
            name="job.started",
            job=job(number // 8, 0).id,
            worker=f"w-{number % 40}",
            fields_json='{"source":"a/meeting.wav","attempt":1}',
        )
        for number in range(many)
    ]
    cpu = time.process_time()
    for row in rows:
        ledger.note([row])
    await ledger.events(0, 1)
    return round((time.process_time() - cpu) / many * 1e6, 1)


if __name__ == "__main__":
    main()
