"""`sttd rebuild-ledger`: a new ledger from what lies in the spool and in the outbox.

The old one is moved aside, never deleted, and a whole one is left alone unless that is insisted
on. Every published transcript becomes a succeeded job, so that nothing is transcribed twice and
its name stays taken; every recording in the spool becomes a queued one. What only the ledger knew
is lost: attempts, events, the keys of finished jobs, and rows of failed jobs (their originals and
reports stay in failed/). The daily copy is not read: it is older than the files, and which of its
jobs have ended since would have to be found out one by one. Runs while no daemon does.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sttd.config import Settings
from sttd.core.jobs import Job
from sttd.supervisor import durable
from sttd.supervisor.durable import Syncer
from sttd.supervisor.inbox import Inbox
from sttd.supervisor.ledger import Ledger, LedgerCorrupt
from sttd.supervisor.lock import Lock
from sttd.supervisor.manifest import Manifest, read_manifest
from sttd.supervisor.outbox import STAGING, Outbox
from sttd.supervisor.portions import inbox_settings
from sttd.supervisor.process import boot_id, make_folders
from sttd.supervisor.records import NewJob, Signature
from sttd.supervisor.recovery import recover
from sttd.supervisor.settling import Settling
from sttd.supervisor.spool import Spool

BATCH = 500  # jobs in one commit
_PARTS = ("", "-wal", "-shm")  # of an SQLite database on disk


class Rebuilt(msgspec.Struct, frozen=True):
    """What was found."""

    succeeded: int
    queued: int
    aside: str  # where the old ledger is; "" when there was none


class WholeError(Exception):
    """The ledger is not damaged; it knows more than the files do."""


def rebuild(settings: Settings, *, force: bool = False) -> Rebuilt:
    """Do it. Raises HeldError while a daemon runs, WholeError, LedgerError and OSError."""
    make_folders(settings)
    lock = Lock(settings.state_dir)
    path = settings.ledger_path
    draft = path.with_name(path.name + ".rebuilding")
    try:
        if not force:
            _require_damage(path)
        for old in _parts(draft):  # of a rebuilding that was cut short
            old.unlink()
        succeeded, queued = asyncio.run(_Rebuilding(settings, draft).run())
        aside = _move_aside(path)
        draft.rename(path)
        durable.sync_folder(path.parent)
        return Rebuilt(succeeded, queued, aside)
    finally:
        lock.release()


def _require_damage(path: Path) -> None:
    """Raises WholeError when the ledger can be opened and is whole."""
    if not path.exists():
        return
    try:
        finding = asyncio.run(_integrity(path))
    except LedgerCorrupt:
        return
    if finding == "ok":
        raise WholeError(f"{path} is whole; --force replaces it all the same")


async def _integrity(path: Path) -> str:
    ledger = _open(path)
    ledger.start(lambda _error: None)
    try:
        return await ledger.integrity()
    finally:
        await ledger.close()


def _open(path: Path) -> Ledger:
    return Ledger.open(
        path,
        boot_id=boot_id(),
        now_boottime_ns=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        now_wall_ns=time.time_ns,
    )


def _parts(path: Path) -> list[Path]:
    """The files of the database at `path` that are there."""
    names = (path.with_name(path.name + part) for part in _PARTS)
    return [name for name in names if os.path.lexists(name)]


def _move_aside(path: Path) -> str:
    """The new name of what is there, its journal moved with it."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    ending = f".damaged-{stamp}"
    moved = _parts(path)
    for old in moved:
        part = old.name.removeprefix(path.name)
        old.rename(path.with_name(path.name + ending + part))
    return str(path) + ending if moved else ""


class _Rebuilding:
    def __init__(self, settings: Settings, draft: Path) -> None:
        self._settings = settings
        self._draft = draft
        self._spool = Spool(settings.spool_dir)
        self._outbox = Outbox(
            settings.outbox_dir,
            done=settings.done_dir,
            failed=settings.failed_dir,
            spool=self._spool,
        )
        self._seen: set[str] = set()

    async def run(self) -> tuple[int, int]:
        """(succeeded, queued); the counts are the new ledger's."""
        self._ledger = _open(self._draft)
        self._ledger.start(lambda _error: None)  # whoever asks hears of it
        try:
            batch: list[NewJob] = []
            for job in self._published():
                batch.append(job)
                if len(batch) == BATCH:
                    await self._succeed(batch)
                    batch = []
            await self._succeed(batch)
            await self._recover()
            counts = await self._ledger.counts()
            return counts.succeeded, counts.queued
        finally:
            await self._ledger.close()

    def _published(self) -> Iterator[NewJob]:
        """A job for each manifest in the outbox."""
        root = self._settings.outbox_dir
        for folder, folders, names in os.walk(root):
            if Path(folder) == root and STAGING in folders:
                folders.remove(STAGING)
            for name in names:
                path = Path(folder, name)
                if name.endswith(".json") and stat.S_ISREG(path.lstat().st_mode):
                    manifest = read_manifest(path)
                    if manifest is not None and manifest.job_id not in self._seen:
                        self._seen.add(manifest.job_id)
                        stem = str(path.relative_to(root)).removesuffix(".json")
                        yield self._job_of(manifest, stem)

    def _job_of(self, manifest: Manifest, stem: str) -> NewJob:
        source = manifest.source
        known = self._spool.read_job(manifest.job_id)  # published, and then cut short
        if known is not None:
            return msgspec.structs.replace(known.new_job(), stem=stem)
        return NewJob(
            id=manifest.job_id,
            kind="inbox",
            name=source.name or stem,
            signature=Signature(0, 0, source.bytes, 0, 0),
            stem=stem,
        )

    async def _succeed(self, batch: list[NewJob]) -> None:
        """These jobs, as succeeded ones; nothing else is queued while this runs."""
        await asyncio.gather(*(self._ledger.adopt(job) for job in batch))
        claimed = await self._ledger.claim(len(batch)) if batch else []
        await asyncio.gather(*(self._finish(job) for job in claimed))

    async def _finish(self, job: Job) -> None:
        row = await self._ledger.job(job.id)
        assert row is not None
        found = await asyncio.to_thread(self._outbox.finish, row)
        assert found is not None, f"{row.out_name}.json has just been read"
        await self._ledger.succeed(
            job.id,
            job.token,
            outputs=found.outputs,
            duration_s=found.duration_s,
            sha256=found.sha256,
            segments=found.segments,
        )
        if not self._spool.folder(job.id).exists():
            await self._ledger.disposed(job.id, None)

    async def _recover(self) -> None:
        """What the daemon does at every start: queue what lies in the spool, put away the rest."""
        syncer = Syncer()
        try:
            settling = Settling(self._settings, self._ledger, self._outbox, self._spool)
            await recover(
                ledger=self._ledger,
                inbox=Inbox(inbox_settings(self._settings), self._spool, syncer=syncer),
                outbox=self._outbox,
                spool=self._spool,
                syncer=syncer,
                dispose=settling.dispose,
                max_file_size=self._settings.limits.max_file_size,
            )
        finally:
            syncer.close()
