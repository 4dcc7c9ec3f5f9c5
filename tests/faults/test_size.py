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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from sttd.client import Client
from sttd.supervisor.ledger import Ledger
from sttd.supervisor.records import EventRow
from tests.support.daemon import Daemon, daemon
from tests.support.ledger import (
    REQUEUE,
    SECOND,
    SUCCEED,
    WALL,
    Clock,
    attempt,
    job_id,
    life,
    new_job,
    opened,
)
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
        kept = sttd.state / "done" / "large.wav"
        eventually(kept.exists, "the original is put away")
        assert kept.stat().st_size == size
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
    sections: dict[str, dict[str, object]] = {
        **DEAF,
        "pool": {"workers": 2},
        "outbox": {"formats": ["json"]},
        "recycle": {"max_requests": 0},
        "limits": {"min_free_disk": 0, "max_queued": 1_000_000},
    }
    with daemon(**sections) as idle:
        idle.start()
        rest = memory(idle.pid, "VmRSS")
        assert idle.stop() == 0
    with daemon(**sections) as sttd:
        inbox = sttd.state / "inbox"
        inbox.mkdir(parents=True)
        for n in range(files):
            folder = inbox / f"{n % 100}"
            if n < 100:
                folder.mkdir()
            (folder / f"{n}.wav").write_bytes(source)
        begun = datetime.now(UTC)
        sttd.start()
        _wait_for(sttd, files)
        peak = memory(sttd.pid, "VmHWM")
        assert sttd.stop() == 0
        _check_each_once(sttd, files)
        first, *_, last = sttd.events("job.started", "job.succeeded")
        assert first["event"] == "job.started"
        return {
            "first_s": (datetime.fromisoformat(first["timestamp"]) - begun).total_seconds(),
            "grown_mib": (peak - rest) / MIB,
            "all_s": (datetime.fromisoformat(last["timestamp"]) - begun).total_seconds(),
        }


def _wait_for(sttd: Daemon, files: int) -> None:
    """Until all are done; asking seldom, so that the daemon has other things to do."""
    with Client(sttd.endpoint, patience_s=20) as client:

        def done() -> bool:
            queue = client.status().queue
            assert queue.failed == 0
            return queue.succeeded == files

        eventually(done, f"{files} are done", 3000, 0.2)


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
            await _lead(ledger, range(start + 1, start + batch + 1))
            if kept is not None:
                await _tell(ledger, range(start + 1, start + batch + 1), clock)
            clock.boottime_ns += batch * SECOND
            clock.wall_ns += batch * SECOND
            if kept is not None:
                before = clock.wall() - kept * SECOND
                while await ledger.prune(before, before):
                    pass
            look(sum(p.stat().st_size for p in path.parent.glob(path.name + "*")))
        assert ledger.dropped_notes == 0
        counts = await ledger.counts()
        assert counts.succeeded >= (jobs if kept is None else kept - batch)
        assert await ledger.job(job_id(jobs)) is not None
        assert await ledger.integrity() == "ok"


async def _lead(ledger: Ledger, numbers: range) -> None:
    """Jobs with all that leaves a row behind: names wished for twice, attempts that failed."""
    rows = await ledger.begin([new_job(n, stem=f"a/meeting-{n // 2}") for n in numbers])
    await ledger.accept([row.id for row in rows])
    taken = await ledger.claim(len(numbers))
    again = {**REQUEUE, "attempt": attempt(1)}
    await asyncio.gather(*(ledger.requeue(j.id, j.token, **again) for j in taken[::50]))
    taken = [job for n, job in enumerate(taken) if n % 50] + await ledger.claim(len(numbers))
    assert len(taken) == len(numbers)
    await asyncio.gather(*(ledger.succeed(j.id, j.token, **SUCCEED) for j in taken))
    await asyncio.gather(*(ledger.disposed(j.id, f"done/{j.name}") for j in taken))


async def _tell(ledger: Ledger, numbers: range, clock: Clock) -> None:
    """What the daemon keeps of them: three events each, and a worker's life for every ten."""
    fields = json.dumps({"source": "a/meeting.wav", "bytes": 1 << 20, "told": "x" * 100})
    now = clock.wall()
    for name in ("job.accepted", "job.started", "job.succeeded"):
        ledger.note(
            EventRow(at_ns=now, name=name, job=job_id(n), worker="w-1", fields_json=fields)
            for n in numbers
        )
    for n in numbers[::10]:
        await ledger.record_life(life(f"w-{n}", (now - WALL) // SECOND))
    # asked for, they are written: the daemon takes its time, of which there is none between batches
    assert len(await ledger.timeline(job_id(numbers[-1]))) == 3


def bounded(path: Path, jobs: int, kept: int, batch: int) -> int:
    """The ledger's files at their largest, in bytes, when it is in its stride."""
    sizes: list[int] = []
    asyncio.run(drive(path, jobs, kept=kept, batch=batch, look=sizes.append))
    early = max(sizes[: max(3, 3 * kept // batch)])
    assert max(sizes) <= early * 1.25 + 4 * MIB, (early, max(sizes))
    connection = apsw.Connection(str(path))
    for table in ("job", "stem", "attempt", "event", "worker_life"):
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}")
        assert 0 < rows <= 4 * kept, (table, rows)  # three events a job
    connection.close()
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
        eventually(lambda: sttd.status()["queue"]["succeeded"] == rows + 20, "all are recorded")
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
