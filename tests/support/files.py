"""A state directory with the daemon's real file parts and ledger, for tests of arrival and return.

Runs no worker: `transcribe` writes by itself what a worker would have left in the staging folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sttd.core.jobs import Job, JobState
from sttd.supervisor import durable
from sttd.supervisor.arrivals import Arrivals, ArrivalSettings
from sttd.supervisor.durable import Syncer
from sttd.supervisor.inbox import Inbox, InboxSettings, Rejection
from sttd.supervisor.lease import ignore_sigio
from sttd.supervisor.ledger import Ledger, LedgerError
from sttd.supervisor.outbox import Outbox
from sttd.supervisor.records import JobRow
from sttd.supervisor.recovery import Recovered, recover
from sttd.supervisor.spool import Spool
from sttd.supervisor.stability import Clock
from sttd.wire.messages import Output

EXTENSIONS = frozenset({"wav", "mp3", "flac"})
DEADLINE_S = 30.0


class Clocks:
    """The two clocks, set by hand; files that are made meanwhile have the real time."""

    def __init__(self) -> None:
        self.boottime_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.wall_s = time.time()

    def clock(self) -> Clock:
        return Clock(lambda: self.boottime_s, lambda: self.wall_s)

    def tick(self, seconds: float) -> None:
        """Let time pass for those who look at these clocks."""
        self.boottime_s += seconds
        self.wall_s += seconds


@dataclass
class Heard:
    """A listener that remembers; `changed` is set whenever it was told something."""

    jobs: list[JobRow] = field(default_factory=list)
    failures: list[JobRow] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    troubles: list[str | None] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def accepted(self, rows: Sequence[JobRow]) -> None:
        self.jobs += rows
        self.changed.set()

    def failed(self, row: JobRow) -> None:
        self.failures.append(row)
        self.changed.set()

    def rejected(self, rejection: Rejection) -> None:
        self.rejections.append(rejection)
        self.changed.set()

    def trouble(self, reason: str | None) -> None:
        self.troubles.append(reason)
        self.changed.set()

    async def counted(self, jobs: int) -> list[JobRow]:
        """Wait until so many jobs were accepted."""
        await self.until(lambda: len(self.jobs) >= jobs)
        return self.jobs

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until it holds; it is looked at whenever something was told."""
        async with asyncio.timeout(DEADLINE_S):
            while not true():
                self.changed.clear()
                await self.changed.wait()


class World:
    """One life of the daemon's file parts on the state directory `root`."""

    def __init__(
        self,
        root: Path,
        *,
        settle_s: float = 0.0,
        max_file_size: int = 1 << 20,
        max_queued: int = 1_000_000,
        min_free_disk: int = 0,
        keep: bool = True,
        allow_paths: tuple[Path, ...] = (),
        clock: Clock | None = None,
        rescan_s: float = 30.0,
        **inbox: float | bool,
    ) -> None:
        ignore_sigio()
        self.root = root
        self.keep = keep
        self.inbox_path = root / "inbox"
        self.inbox_path.mkdir(parents=True, exist_ok=True)
        self.syncer = Syncer()
        self.spool = Spool(root / "spool")
        self.outbox = Outbox(
            root / "outbox", done=root / "done", failed=root / "failed", spool=self.spool
        )
        settings = InboxSettings(
            path=self.inbox_path,
            extensions=EXTENSIONS,
            settle_s=settle_s,
            **inbox,  # type: ignore[arg-type]  # whichever of its settings a test is about
        )
        self.inbox = Inbox(settings, self.spool, syncer=self.syncer, clock=clock)
        self.arrival_settings = ArrivalSettings(
            max_file_size=max_file_size,
            min_free_disk=min_free_disk,
            max_queued=max_queued,
            allow_paths=allow_paths,
            rescan_s=rescan_s,
        )
        (root / "ledger").mkdir(exist_ok=True)
        self.ledger = Ledger.open(
            root / "ledger" / "sttd.db",
            boot_id="test",
            now_boottime_ns=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            now_wall_ns=time.time_ns,
            taken=self.outbox.taken,
            ballast_bytes=0,
        )
        self.broken: list[LedgerError] = []
        self.heard = Heard()

    # -- parts --------------------------------------------------------------------------------
    def arrivals(self) -> Arrivals:
        return Arrivals(
            self.arrival_settings,
            inbox=self.inbox,
            outbox=self.outbox,
            spool=self.spool,
            ledger=self.ledger,
            syncer=self.syncer,
            listener=self.heard,
            dispose=self.dispose,
        )

    async def recover(self) -> Recovered:
        return await recover(
            ledger=self.ledger,
            inbox=self.inbox,
            outbox=self.outbox,
            spool=self.spool,
            syncer=self.syncer,
            dispose=self.dispose,
            max_file_size=self.arrival_settings.max_file_size,
        )

    async def dispose(self, job: str) -> None:
        """Put away the original, as the daemon does."""
        row = await self.ledger.job(job)
        assert row is not None
        folder = self.spool.folder(job)
        if row.state is JobState.SUCCEEDED:
            [where] = self.outbox.dispose_successes([(folder, row.name)], keep=self.keep)
            assert not isinstance(where, Exception)
        else:
            report = {"job_id": job, "code": row.error_code, "message": row.error_message}
            where = self.outbox.dispose_failure(folder, row.name, msgspec.json.encode(report))
        await self.ledger.disposed(job, where)

    # -- what users and workers do ------------------------------------------------------------
    def drop(self, name: str, data: bytes = b"RIFF....") -> Path:
        """Put a file into the inbox at once, as `mv` does."""
        path = self.inbox_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.root / "draft"
        draft.write_bytes(data)
        return draft.rename(path)

    def write_staging(self, job: Job, formats: Sequence[str] = ("txt", "json")) -> list[Output]:
        """Leave complete, synced outputs in the staging folder, as a worker does."""
        staging = self.outbox.staging(job.id, job.attempt)
        staging.mkdir()
        stem = Path(job.out_name).name
        outputs = []
        for suffix in formats:
            data = b"words\n"
            if suffix == "json":
                audio = self.spool.audio(job.id).read_bytes()
                data = manifest(job.id, job.attempt, audio)
            path = staging / f"{stem}.{suffix}"
            durable.write(path, data)
            outputs.append(Output(path.name, len(data), hashlib.sha256(data).hexdigest()))
        durable.sync_folder(staging)
        return outputs

    async def finish(self, job: Job) -> list[str]:
        """Do all that happens to a job from its claim to its end."""
        outputs = self.write_staging(job)
        staging = self.outbox.staging(job.id, job.attempt)
        published = self.outbox.publish(staging, job.out_name, outputs)
        assert await self.ledger.succeed(
            job.id, job.token, outputs=published, duration_s=1.0, sha256=None, segments=1
        )
        await self.dispose(job.id)
        return published

    # -- what there is ------------------------------------------------------------------------
    def files(self, below: str = "") -> list[str]:
        """Every file beneath a folder of the state directory, the ledger's apart."""
        found = []
        for folder, _, names in os.walk(self.root / below):
            place = Path(folder).relative_to(self.root)
            if place.parts[:1] != ("ledger",):
                found += [str(place / name) for name in names]
        return sorted(found)


def manifest(job: str, attempt: int, audio: bytes) -> bytes:
    """A small transcript of that recording."""
    return msgspec.json.encode(
        {
            "schema": "sttd.transcript/1",
            "job_id": job,
            "attempts": attempt,
            "source": {"sha256": hashlib.sha256(audio).hexdigest(), "duration_s": 1.0},
            "segments": [{"start_s": 0.0, "end_s": 1.0, "text": "words"}],
            "text": "words",
        }
    )


@contextlib.asynccontextmanager
async def living(world: World) -> AsyncIterator[World]:
    """The ledger is open and its thread runs."""
    world.ledger.start(world.broken.append)
    try:
        yield world
    finally:
        await world.ledger.close()
        world.syncer.close()


@contextlib.asynccontextmanager
async def attending(world: World) -> AsyncIterator[Arrivals]:
    """The arrivals run; what they raise is raised here."""
    async with living(world):
        arrivals = world.arrivals()
        async with asyncio.TaskGroup() as group:
            group.create_task(arrivals.run())
            yield arrivals
            arrivals.stop()


async def accept_all(world: World) -> list[JobRow]:
    """Scan once and accept everything that has settled, without the doorbell."""
    arrivals = world.arrivals()
    finished = False
    before = len(world.heard.jobs)
    while not finished:
        piece = world.inbox.scan()
        finished = piece.finished
        await arrivals._handle(piece.found)
    await arrivals._settled()
    return world.heard.jobs[before:]


def copy_state(source: Path, target: Path) -> None:
    """A state directory as it stands, sockets and FIFOs apart."""
    shutil.copytree(source, target, symlinks=True)
