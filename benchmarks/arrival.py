"""How fast recordings are taken in: `python -m benchmarks.arrival [--present 100000]`.

Three figures, each of the real daemon with every fsync on and `settle = 0`: small files accepted a
second (30 rounds of 1,000, jobs held back by a drain); from the close of a file to its job's start
(200 drops, an idle worker); and a daemon started on an inbox of many files: its first job, and how
much its memory grows until all are accepted.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.support import report
from sttd.client import Client
from tests.support.daemon import Daemon, daemon
from tests.support.wav import tone

MIB = 1 << 20


@contextlib.contextmanager
def drill(**sections: Any) -> Iterator[Daemon]:
    """A daemon that is not started yet, one quick worker."""
    limits = {"max_queued": 1_000_000}
    with daemon(pool={"workers": 1}, limits=limits, **sections) as sttd:
        yield sttd


def stage(sttd: Daemon, count: int) -> list[Path]:
    """Small recordings beside the inbox, on its file system."""
    sound = tone(sttd.home / "a.wav", 0.1).read_bytes()
    folder = sttd.home / "stage"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{time.monotonic_ns()}-{number}.wav" for number in range(count)]
    for path in paths:
        path.write_bytes(sound)
    return paths


def drop(sttd: Daemon, paths: list[Path]) -> None:
    for path in paths:
        path.rename(sttd.state / "inbox" / path.name)


def known(client: Client) -> int:
    queue = client.status().queue
    return queue.queued + queue.running + queue.succeeded


def rates(rounds: int, files: int) -> list[float]:
    """Accepted a second, from the first rename to the last acceptance."""
    found = []
    with drill() as sttd:
        sttd.start()
        sttd.ctl("drain", "--wait")
        client = Client(sttd.endpoint)
        for _ in range(rounds):
            paths = stage(sttd, files)
            before, began = known(client), time.monotonic()
            drop(sttd, paths)
            while known(client) < before + files:
                time.sleep(0.01)
            found.append(files / (time.monotonic() - began))
            report.say(f"accepted {found[-1]:.0f} a second")
    return found


def latencies(drops: int) -> list[float]:
    """Milliseconds from the close to `job.started`, by the wall clock of both."""
    found = []
    with drill() as sttd:
        sttd.start()
        sttd.until("worker.ready", 2)
        for number, path in enumerate(stage(sttd, drops)):
            data, name = path.read_bytes(), f"{number}.wav"
            with (sttd.state / "inbox" / name).open("wb") as file:
                file.write(data)
            closed = time.time()
            sttd.transcript(str(number))
            started = sttd.until("job.started", source=name)["timestamp"]
            moment = dt.datetime.fromisoformat(started).timestamp()
            found.append(1000 * (moment - closed))
            time.sleep(0.05)  # until it is at rest
    return found


def present(count: int) -> dict[str, float]:
    """A start on that many files."""
    with drill() as sttd:
        (sttd.state / "inbox").mkdir(parents=True, exist_ok=True)
        drop(sttd, stage(sttd, count))
        began = time.time()
        sttd.start()
        started = sttd.until("job.started")["timestamp"]
        first_s = dt.datetime.fromisoformat(started).timestamp() - began
        at_first, most = rss(sttd), 0.0
        client = Client(sttd.endpoint)
        while known(client) < count:
            most = max(most, rss(sttd))
            time.sleep(1.0)
        return {
            "files": count,
            "first_job_s": first_s,
            "all_accepted_s": time.time() - began,
            "rss_at_first_mib": at_first,
            "rss_most_mib": most,
        }


def rss(sttd: Daemon) -> float:
    pages = int(Path(f"/proc/{sttd.pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--drops", type=int, default=200)
    parser.add_argument("--present", type=int, default=100_000)
    wish = parser.parse_args()
    body: dict[str, Any] = report.setting()
    body["accepted_a_second"] = rates(wish.rounds, wish.files)
    body["close_to_started_ms"] = latencies(wish.drops)
    body["present_at_start"] = present(wish.present)
    report.write("arrival", body)
    rate, late, many = (
        body[k] for k in ("accepted_a_second", "close_to_started_ms", "present_at_start")
    )
    report.table(
        ("figure", "to reach", "measured"),
        (
            ("accepted a second, p50", ">= 1,000", f"{report.p50(rate):.0f}"),
            ("accepted a second, worst and best", "", f"{min(rate):.0f}, {max(rate):.0f}"),
            ("close to started, p50", "<= 30 ms", f"{report.p50(late):.1f} ms"),
            ("close to started, p99", "", f"{report.p99(late):.1f} ms"),
            (
                f"{many['files']} files at start: first job",
                "<= 2 s",
                f"{many['first_job_s']:.2f} s",
            ),
            ("the same: all accepted", "", f"{many['all_accepted_s']:.0f} s"),
            (
                "the same: growth",
                "< 20 MiB",
                f"{many['rss_most_mib'] - many['rss_at_first_mib']:.1f} MiB",
            ),
        ),
    )


if __name__ == "__main__":
    main()
