"""Turns settled recordings into accepted jobs: inbox, ledger, inbox, ledger.

Waits for the doorbell, for the time at which a file may have settled, and for the rescan; claims
in batches; stops claiming while there is no room and says why. A job is told of only after the
commit that accepts it. Submissions come in by the same acceptance. Opens and moves no file
itself, and runs no job.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from sttd.core.jobs import JobState
from sttd.supervisor import descriptors
from sttd.supervisor.acceptance import Acceptance, Settled
from sttd.supervisor.doorbell import Doorbell
from sttd.supervisor.durable import StorageFull, Syncer
from sttd.supervisor.inbox import Candidate, Found, Inbox, InboxUnavailable, LoneSidecar, Rejection
from sttd.supervisor.ledger import LedgerBroken, LedgerError
from sttd.supervisor.outbox import Outbox
from sttd.supervisor.records import Counts, JobRow, NewJob, printable
from sttd.supervisor.reference import RefusedError
from sttd.supervisor.room import QueueFullError, Room
from sttd.supervisor.schedule import ScanSchedule
from sttd.supervisor.spool import Spool
from sttd.supervisor.submissions import SubmissionLedger, Submissions

__all__ = ["ArrivalSettings", "Arrivals", "Listener", "QueueFullError", "RefusedError"]

BATCH = 128  # recordings claimed together
_FIRST_BATCH = 16  # ... and by a scan's first piece: the first job need not wait for many
_TRY_AGAIN_S = 1.0  # after trouble, and for what is still being written in the spool
# what may pass by itself: nothing is claimed until it has
_PASSING = (InboxUnavailable, StorageFull, LedgerError, QueueFullError, OSError)


class ArrivalLedger(SubmissionLedger, Protocol):
    """What arrivals need of the ledger."""

    async def in_state(self, state: JobState) -> list[JobRow]:
        """All rows in a state."""
        ...

    async def counts(self) -> Counts:
        """Jobs by state."""
        ...


class ArrivalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds; see the configuration's [limits], [inbox], [control]."""

    max_file_size: int
    min_free_disk: int
    max_queued: int
    rescan_s: float = 30.0
    allow_paths: tuple[Path, ...] = ()


class Listener(Protocol):
    """Whom arrivals tell; called in the loop, must not block or raise."""

    def accepted(self, rows: Sequence[JobRow]) -> None:
        """These jobs are durably queued."""

    def failed(self, row: JobRow) -> None:
        """This job was accepted and failed at once: too large, or an invalid sidecar."""

    def rejected(self, rejection: Rejection) -> None:
        """This file is left where it is; said once."""

    def trouble(self, reason: str | None) -> None:
        """Nothing is claimed, for this reason; None: it is over. Said when it changes."""


class Arrivals:
    """The inbox's attendant; one for the daemon's life. `dispose` is called with a failed job."""

    def __init__(
        self,
        settings: ArrivalSettings,
        *,
        inbox: Inbox,
        outbox: Outbox,
        spool: Spool,
        ledger: ArrivalLedger,
        syncer: Syncer,
        listener: Listener,
        dispose: Callable[[str], Awaitable[object]],
    ) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._ledger = ledger
        self._listener = listener
        self._acceptance = Acceptance(
            inbox=inbox,
            spool=spool,
            ledger=ledger,
            syncer=syncer,
            dispose=dispose,
            max_file_size=settings.max_file_size,
        )
        self._room = Room(
            ledger.counts,
            [spool.root, outbox.path],
            min_free_disk=settings.min_free_disk,
            max_queued=settings.max_queued,
        )
        self._submissions = Submissions(
            spool=spool,
            ledger=ledger,
            acceptance=self._acceptance,
            room=self._room,
            tell=self._tell,
            hand_over=self._take_over,
            allow_paths=settings.allow_paths,
        )
        self.admit = self._submissions.admit
        self.accept_path = self._submissions.accept_path
        self.accept_upload = self._submissions.accept_upload
        self._schedule = ScanSchedule(settings.rescan_s)
        self._rung = asyncio.Event()
        self._bell: Doorbell | None = None
        self._stopping = False
        self._pending: dict[str, JobRow] = {}  # claims begun and not yet settled
        self._pending_due = 0.0
        self._settling: asyncio.Task[None] | None = None
        self._trouble: Exception | None = None

    # -- life ---------------------------------------------------------------------------------
    async def run(self) -> None:
        """Attend to the inbox until `stop`; raises StorageBroken and LedgerBroken."""
        settings = self._inbox.settings
        bell = Doorbell(settings.path, self._ring, self._bell_broke, recursive=settings.recursive)
        self._bell = bell
        for row in await self._ledger.in_state(JobState.CLAIMING):
            self._pending[row.id] = row  # what the recovery could not settle
        bell.start()
        try:
            while not self._stopping:
                await self._attend(bell)
                await self._rest()
        finally:
            await bell.stop()
            self._inbox.end_scan()
            await self._settled()

    def stop(self) -> None:
        """Let `run` end when the batch under way is settled."""
        self._stopping = True
        self._rung.set()

    def configure(self, settings: ArrivalSettings) -> None:
        """Go by these settings and by the inbox's from now on, and scan again."""
        self._acceptance.max_file_size = settings.max_file_size
        self._room.min_free_disk = settings.min_free_disk
        self._room.max_queued = settings.max_queued
        self._submissions.allow_paths = settings.allow_paths
        self._schedule.rescan_s = settings.rescan_s
        if self._bell is not None:
            self._bell.renew(recursive=self._inbox.settings.recursive)
        self._ring()

    def _take_over(self, row: JobRow) -> None:
        self._pending[row.id] = row
        self._rung.set()

    def _ring(self) -> None:
        self._schedule.ask()
        self._rung.set()

    def _bell_broke(self, reason: str) -> None:
        self._listener.rejected(
            Rejection(".", f"changes are noticed by the rescan only for now: {printable(reason)}")
        )

    async def _rest(self) -> None:
        """Until the bell rings or the next thing is due."""
        if self._schedule.running or self._stopping:
            return
        now = time.monotonic()
        waits = [self._schedule.wait(now)]
        if self._pending:
            waits.append(self._pending_due - now)
        if self._trouble is not None:
            waits = [_TRY_AGAIN_S]
        elif (due := self._inbox.next_look()) is not None:
            waits.append(due - time.clock_gettime(time.CLOCK_BOOTTIME))
        try:
            async with asyncio.timeout(max(0.0, min(waits))):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()

    # -- one round ----------------------------------------------------------------------------
    async def _attend(self, bell: Doorbell) -> None:
        try:
            await self._settle_pending()
            if self._trouble is not None:
                await self._room.left(len(self._pending))  # else there is no need to look
            found = await asyncio.to_thread(self._inbox.look, bell.hints())
            found += await self._scan()
            await self._handle(found)
            if not self._schedule.running:
                await self._settled()
        except LedgerBroken:
            raise
        except _PASSING as error:
            with contextlib.suppress(*_PASSING):
                await self._settled()
            self._tell_trouble(error)
            self._inbox.end_scan()
            self._schedule.abandon()
        else:
            if self._trouble is not None:
                bell.renew()
            self._tell_trouble(None)

    async def _scan(self) -> list[Found]:
        """A piece of a scan, when one is under way or it is time for one."""
        now = time.monotonic()
        if not self._schedule.is_time(now):
            return []
        limit = BATCH if self._schedule.running else _FIRST_BATCH
        self._schedule.began()
        piece = await asyncio.to_thread(self._inbox.scan, limit)
        self._schedule.did(now, time.monotonic(), finished=piece.finished)
        return piece.found

    async def _handle(self, found: list[Found]) -> None:
        candidates: dict[str, Candidate] = {}
        claiming = {row.name for row in self._pending.values() if row.kind == "inbox"}
        for one in found:
            match one:
                case Candidate(name) if name not in claiming:
                    candidates[name] = one
                case Rejection():
                    self._listener.rejected(one)
                case LoneSidecar(name):
                    await self._set_aside(name)
        if not candidates:
            return
        wanted = list(candidates.values())
        left = await self._room.left(len(self._pending))
        if len(wanted) > left:
            self._schedule.ask()
        step = min(BATCH, descriptors.recordings_at_once())
        for start in range(0, min(left, len(wanted)), step):
            await self._claim(wanted[start : min(start + step, left)])

    async def _claim(self, candidates: Sequence[Candidate]) -> None:
        """Steps 3 to 9 for a batch; from 5 on while the next one is being prepared."""
        jobs, rejected = await asyncio.to_thread(self._prepare, candidates)
        for one in rejected:
            self._listener.rejected(one)
        if not jobs:
            return
        rows = await self._ledger.begin(jobs)
        self._pending.update((row.id, row) for row in rows)
        await self._settled()
        self._settling = asyncio.create_task(self._settle(rows))

    async def _settled(self) -> None:
        """Until the batch before is settled; raises what that raised."""
        task, self._settling = self._settling, None
        if task is not None:
            await task

    def _prepare(self, candidates: Sequence[Candidate]) -> tuple[list[NewJob], list[Rejection]]:
        jobs, rejected = self._inbox.prepare(candidates)
        around = self._outbox.around
        jobs = [
            msgspec.structs.replace(job, stem=around(job.stem)) if "/" in job.stem else job
            for job in jobs
        ]
        return jobs, rejected

    async def _settle(self, rows: Sequence[JobRow]) -> None:
        settled = await self._acceptance.settle(rows)
        held = {row.id for row in settled.held}
        for row in rows:
            if row.id not in held:
                self._pending.pop(row.id, None)
        self._tell(settled)

    async def _settle_pending(self) -> None:
        """Go on with claims that an error, or somebody who still writes, has kept open."""
        if not self._pending or self._settling or time.monotonic() < self._pending_due:
            return
        self._pending_due = time.monotonic() + _TRY_AGAIN_S
        await self._settle(list(self._pending.values()))

    # -- what is told -------------------------------------------------------------------------
    def _tell(self, settled: Settled) -> None:
        if settled.accepted:
            self._listener.accepted(settled.accepted)
        for row in settled.failed:
            self._listener.failed(row)
        for one in settled.withdrawn:
            if one.refused:
                self._refuse(one.row.name, one.reason, one.row.signature.ino)
            else:
                self._ring()  # it may have been replaced by another

    def _refuse(self, name: str, reason: str, ino: int = 0) -> None:
        for one in self._inbox.refuse(name, reason, ino):
            self._listener.rejected(one)

    def _tell_trouble(self, error: Exception | None) -> None:
        """Once for each kind of trouble: the same one may name another file every second."""
        if type(error) is not type(self._trouble):
            self._listener.trouble(None if error is None else str(error))
        self._trouble = error

    async def _set_aside(self, name: str) -> None:
        """Options that waited for their recording for too long go to failed/."""
        message = "options without a recording; drop them before the recording of that name"
        report = msgspec.json.encode(
            {"job_id": None, "code": "lone_sidecar", "message": message, "attempts": []}
        )

        def move() -> str:
            with self._inbox.holding(name) as (folder, base):
                return self._outbox.set_aside(folder, base, name, report)

        try:
            where = await asyncio.to_thread(move)
        except FileNotFoundError:
            return
        except OSError as error:  # the others need not wait for this one
            self._refuse(name, f"{message}; it cannot be moved to failed/: {error.strerror}")
            return
        self._listener.rejected(Rejection(name, f"{message}; moved to {printable(where)}"))
