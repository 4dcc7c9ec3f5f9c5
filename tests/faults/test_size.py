"""Much at once: recordings as large as they may be, inboxes and ledgers with very many.

What must not grow does not; each is done exactly once. Short here, in full size in the sweep.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import struct
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sttd.client import Client
from tests.support.daemon import Daemon, daemon
from tests.support.ledger import SECOND, SUCCEED, Clock, job_id, new_job, opened
from tests.support.tally import sweep
from tests.support.waiting import eventually
from tests.support.wav import tone

MIB = 1 << 20
# The engine listens to nothing: these tests are about all the rest.
DEAF: dict[str, Any] = {"engine": {"name": "drill", "options": {"read_audio": False}}}


def memory(pid: int, key: str) -> int:
    """Bytes, by a key of /proc/PID/status: VmRSS, or VmHWM for the peak since `forget_peak`."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


# -- one large recording --------------------------------------------------------------------------
def silence(path: Path, size: int) -> Path:
    """A recording of so many bytes, made without holding them."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)  # PCM, mono, 16 bits
    head = b"RIFF" + struct.pack("<I", size - 8) + b"WAVEfmt " + form
    path.write_bytes(head + b"data" + struct.pack("<I", size - 44))
    os.truncate(path, size)
    return path


def submit_much(tmp_path: Path, size: int) -> int:
    """By how many bytes a submission of `size` bytes through the socket makes the daemon grow."""
    source = silence(tmp_path / "large.wav", size)
    with daemon(**DEAF) as sttd:
        sttd.start()
        with Client(sttd.endpoint, patience_s=30) as client:
            client.submit(tone(tmp_path / "small.wav", 0.2).read_bytes(), name="small.wav")
            sttd.transcript("small")
            before = memory(sttd.pid, "VmRSS")
            forget_peak(sttd.pid)
            job = client.submit(source)
        peak = memory(sttd.pid, "VmHWM")
        row = sttd.until("job.accepted", source="large.wav")
        assert (row["job"], row["bytes"]) == (job.job, size)
        sttd.until("job.succeeded", source="large.wav")
        assert (sttd.state / "done" / "large.wav").stat().st_size == size
        assert sttd.stop() == 0
    return peak - before


def test_a_large_submission_does_not_make_the_daemon_grow(tmp_path: Path) -> None:
    assert submit_much(tmp_path, 64 * MIB) < 12 * MIB


@pytest.mark.sweep
@pytest.mark.timeout(900)
def test_the_largest_submission_does_not_make_the_daemon_grow(tmp_path: Path) -> None:
    """Half a minute."""
    with sweep("A submission of 500 MiB through the socket", "recording") as tried:
        grown = submit_much(tmp_path, 500 * MIB)
        tried.count += 1
        tried.notes.append(f"the daemon's peak was {grown / MIB:.1f} MiB above its rest")
        assert grown < 12 * MIB


# -- many recordings ------------------------------------------------------------------------------
def start_with(tmp_path: Path, files: int) -> dict[str, float]:
    """Start upon an inbox with that many files; what was seen, times in seconds, sizes in MiB."""
    source = tone(tmp_path / "talk.wav", 0.05).read_bytes()
    with daemon(
        **DEAF,
        pool={"workers": 2},
        outbox={"formats": ["json"]},
        recycle={"max_requests": 0},
        limits={"min_free_disk": 0, "max_queued": 1_000_000},
    ) as sttd:
        inbox = sttd.state / "inbox"
        inbox.mkdir(parents=True)
        for n in range(files):
            folder = inbox / f"{n % 100}"
            if n < 100:
                folder.mkdir()
            (folder / f"{n}.wav").write_bytes(source)
        sttd.start()
        rest = memory(sttd.pid, "VmRSS")
        forget_peak(sttd.pid)
        eventually(lambda: _done(sttd) == files, f"{files} are done", 3000)
        peak = memory(sttd.pid, "VmHWM")
        assert sttd.stop() == 0
        _check_each_once(sttd, files)
        return {
            "first_s": _between(sttd, "daemon.started", "job.started"),
            "grown_mib": (peak - rest) / MIB,
            "all_s": _between(sttd, "daemon.started", "daemon.stopped"),
        }


def _done(sttd: Daemon) -> int:
    with Client(sttd.endpoint, patience_s=20) as client:
        queue = client.status().queue
        assert queue.failed == 0
        return queue.succeeded


def _check_each_once(sttd: Daemon, files: int) -> None:
    wanted = {f"{n % 100}/{n}" for n in range(files)}
    outbox, done = sttd.state / "outbox", sttd.state / "done"
    manifests = [p.relative_to(outbox).with_suffix("") for p in outbox.rglob("*.json")]
    originals = [p.relative_to(done).with_suffix("") for p in done.rglob("*.wav")]
    assert Counter(map(str, manifests)) == Counter(wanted)
    assert Counter(map(str, originals)) == Counter(wanted)
    started = Counter(event["job"] for event in sttd.events("job.started"))
    assert set(started.values()) == {1}
    eventually(lambda: sttd.leftovers() == [])


def _between(sttd: Daemon, first: str, then: str) -> float:
    one, two = (sttd.events(name)[0]["timestamp"] for name in (first, then))
    return (datetime.fromisoformat(two) - datetime.fromisoformat(one)).total_seconds()


def test_a_full_inbox_at_the_start_is_done_once_without_growing(tmp_path: Path) -> None:
    assert start_with(tmp_path, 600)["grown_mib"] < 20


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_files_at_the_start_are_done_once_without_growing(
    tmp_path: Path,
) -> None:
    """Ten to twenty minutes."""
    with sweep("Files present at the start, each done exactly once", "files") as tried:
        seen = start_with(tmp_path, 100_000)
        tried.count = 100_000
        tried.notes += [
            f"first job after {seen['first_s']:.2f} s",
            f"daemon grown by {seen['grown_mib']:.1f} MiB",
            f"all after {seen['all_s']:.0f} s",
        ]
        assert seen["grown_mib"] < 20


# -- many rows ------------------------------------------------------------------------------------
async def drive(
    path: Path, jobs: int, *, kept: int | None, batch: int, look: Callable[[int], None]
) -> None:
    """Lead so many jobs through a ledger, claim to disposal; forget all but the last `kept`."""
    clock = Clock()
    async with opened(path, clock) as ledger:
        for start in range(0, jobs, batch):
            numbers = range(start + 1, start + batch + 1)
            rows = await ledger.begin([new_job(number) for number in numbers])
            await ledger.accept([row.id for row in rows])
            taken = await ledger.claim(batch)
            await asyncio.gather(*(ledger.succeed(j.id, j.token, **SUCCEED) for j in taken))
            await asyncio.gather(*(ledger.disposed(j.id, f"done/{j.name}") for j in taken))
            clock.boottime_ns += batch * SECOND
            clock.wall_ns += batch * SECOND
            if kept is not None:
                before = clock.wall() - kept * SECOND
                while await ledger.prune(before, before):
                    pass
            look(sum(p.stat().st_size for p in path.parent.glob(path.name + "*")))
        counts = await ledger.counts()
        assert counts.succeeded >= (jobs if kept is None else kept - batch)
        assert await ledger.job(job_id(jobs)) is not None
        assert await ledger.integrity() == "ok"


def bounded(path: Path, jobs: int, kept: int, batch: int) -> int:
    """The ledger's files at their largest, in bytes, when it is in its stride."""
    sizes: list[int] = []
    asyncio.run(drive(path, jobs, kept=kept, batch=batch, look=sizes.append))
    early = max(sizes[: max(3, 3 * kept // batch)])
    assert max(sizes) <= early * 1.25 + 4 * MIB, (early, max(sizes))
    return max(sizes)


def test_a_ledger_through_which_many_jobs_go_stays_bounded(tmp_path: Path) -> None:
    bounded(tmp_path / "sttd.db", 6_000, 1_000, 500)


@pytest.mark.sweep
@pytest.mark.timeout(7200)
def test_a_ledger_through_which_a_million_jobs_go_stays_bounded(tmp_path: Path) -> None:
    """Ten to twenty minutes."""
    with sweep("Jobs through one ledger of which it keeps ten thousand", "jobs") as tried:
        most = bounded(tmp_path / "sttd.db", 1_000_000, 10_000, 1000)
        tried.count = 1_000_000
        tried.notes.append(f"files at most {most / MIB:.1f} MiB")


def live_upon(tmp_path: Path, rows: int) -> tuple[float, float]:
    """The MiB of a ledger with so many finished jobs, and of a daemon that lives upon it."""
    sizes: list[int] = []
    made = tmp_path / "sttd.db"
    asyncio.run(drive(made, rows, kept=None, batch=1000, look=sizes.append))
    source = tone(tmp_path / "talk.wav", 0.1)
    with daemon(retention={"rows": 0, "done": 0, "failed": 0}) as sttd:
        (sttd.state / "ledger").mkdir(parents=True)
        for part in tmp_path.glob("sttd.db*"):
            shutil.copy(part, sttd.state / "ledger" / part.name)
        sttd.start()
        for n in range(20):
            sttd.drop(f"{n}.wav", source)
        for n in range(20):
            assert sttd.transcript(str(n))["attempts"] == 1
        assert sttd.status()["queue"]["succeeded"] == rows + 20
        listed = json.loads(sttd.ctl("jobs", "--limit", "5", "--json").stdout)["jobs"]
        assert len(listed) == 5
        peak = memory(sttd.pid, "VmHWM")
        assert sttd.stop() == 0
    return max(sizes) / MIB, peak / MIB


def test_a_daemon_upon_many_rows_works_as_upon_few(tmp_path: Path) -> None:
    _, peak = live_upon(tmp_path, 10_000)
    assert peak < 100


@pytest.mark.sweep
@pytest.mark.timeout(7200)
def test_a_daemon_upon_a_million_rows_works_as_upon_few(tmp_path: Path) -> None:
    """Ten to twenty minutes, nearly all of it for making the rows."""
    with sweep("A daemon upon a ledger of a million finished jobs", "rows") as tried:
        size, peak = live_upon(tmp_path, 1_000_000)
        tried.count = 1_000_000
        tried.notes += [f"{size:.0f} MiB of ledger", f"daemon at most {peak:.0f} MiB"]
        assert peak < 100
