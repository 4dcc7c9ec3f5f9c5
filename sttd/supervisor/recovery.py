"""Puts the ledger and the files in agreement again when the daemon starts; before anything runs.

In order: settle claims; adopt transcripts that were published, or ready to be, when their row was
not; requeue what ran; clear staging; put away originals; look through the spool for orphans.
Every step may be cut short and repeated: recovering twice is recovering once. Deletes nothing
but what no job needs and the daemon itself has made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sttd.core.jobs import FINAL, JobState
from sttd.supervisor.acceptance import Acceptance, ClaimLedger, Settled
from sttd.supervisor.durable import StorageFull, Syncer
from sttd.supervisor.inbox import Inbox, InboxUnavailable
from sttd.supervisor.outbox import NameTakenError, Outbox, StagingError
from sttd.supervisor.records import JobRow, NewJob
from sttd.supervisor.spool import AUDIO, JOB, OPTIONS, Spool, signature_of

_BATCH = 256


class RecoveryLedger(ClaimLedger, Protocol):
    """What recovery needs of the ledger."""

    async def in_state(self, state: JobState) -> list[JobRow]:
        """All rows in a state."""
        ...

    async def succeed(
        self,
        job: str,
        token: str,
        *,
        outputs: Sequence[str],
        duration_s: float | None,
        sha256: str | None,
        segments: int,
    ) -> bool:
        """Record a running job's transcript."""
        ...

    async def interrupted(self) -> int:
        """Requeue everything that runs."""
        ...

    async def undisposed(self, limit: int) -> list[JobRow]:
        """Final rows whose original is still in the spool."""
        ...

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are jobs."""
        ...

    async def job(self, job: str) -> JobRow | None:
        """The job of that id."""
        ...

    async def adopt(self, new: NewJob) -> JobRow:
        """Record as queued what lay in the spool without a row."""
        ...

    async def retry(self, job: str) -> bool:
        """Requeue a failed or cancelled job."""
        ...


@dataclass
class Recovered:
    """What was found and done, for the log."""

    claims: Settled = field(default_factory=Settled)
    adopted: list[JobRow] = field(default_factory=list)  # succeeded without having been recorded
    requeued: int = 0
    disposed: int = 0
    undisposed: list[str] = field(default_factory=list)  # jobs; the deeds go on with them
    orphans: list[JobRow] = field(default_factory=list)  # had lost their rows
    claims_wait: bool = False  # some could not be settled now; the arrivals go on with them
    removed: int = 0  # staging folders, half-received uploads, empty spool folders
    troubles: list[str] = field(default_factory=list)  # what could not be done now


async def recover(
    *,
    ledger: RecoveryLedger,
    inbox: Inbox,
    outbox: Outbox,
    spool: Spool,
    syncer: Syncer,
    dispose: Callable[[str], Awaitable[object]],
    max_file_size: int,
) -> Recovered:
    """Do all of it, while no worker lives. `dispose` is called with each final, undisposed job.

    Raises StorageBroken and LedgerError; what only cannot be done now is told in `troubles`.
    """
    acceptance = Acceptance(
        inbox=inbox,
        spool=spool,
        ledger=ledger,
        syncer=syncer,
        dispose=dispose,
        max_file_size=max_file_size,
    )
    recovery = _Recovery(ledger, outbox, spool, acceptance, dispose)
    await recovery.claims()
    await recovery.finished()
    recovery.done.requeued = await ledger.interrupted()
    recovery.done.removed += await asyncio.to_thread(outbox.drop_all)
    await recovery.originals()
    await recovery.orphans()
    if not recovery.done.claims_wait:  # else one of them may belong to a claim
        recovery.done.removed += await asyncio.to_thread(spool.clear_uploads)
    return recovery.done


class _Recovery:
    def __init__(
        self,
        ledger: RecoveryLedger,
        outbox: Outbox,
        spool: Spool,
        acceptance: Acceptance,
        dispose: Callable[[str], Awaitable[object]],
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._spool = spool
        self._acceptance = acceptance
        self._dispose = dispose
        self.done = Recovered()

    async def claims(self) -> None:
        """Rows that were begun and not accepted; those of the inbox wait if it is away."""
        rows = await self._ledger.in_state(JobState.CLAIMING)
        rows.sort(key=lambda row: row.kind == "inbox")
        for start in range(0, len(rows), _BATCH):
            try:
                settled = await self._acceptance.settle(rows[start : start + _BATCH])
            except (InboxUnavailable, StorageFull, OSError) as error:
                self.done.troubles.append(str(error))
                self.done.claims_wait = True
                return
            claims = self.done.claims
            claims.accepted += settled.accepted
            claims.failed += settled.failed
            claims.withdrawn += settled.withdrawn
            claims.held += settled.held

    async def finished(self) -> None:
        """Running rows whose transcript is published, or complete in the staging folder."""
        for row in await self._ledger.in_state(JobState.RUNNING):
            try:
                found = await asyncio.to_thread(self._outbox.finish, row)
            except (NameTakenError, StagingError, StorageFull) as error:
                self.done.troubles.append(f"{row.id} is repeated: {error}")
                continue
            if found is None or row.token is None:
                continue
            done = await self._ledger.succeed(
                row.id,
                row.token,
                outputs=found.outputs,
                duration_s=found.duration_s,
                sha256=found.sha256,
                segments=found.segments,
            )
            if done:
                self.done.adopted.append(row)

    async def originals(self) -> None:
        """Final rows whose original still lies in the spool."""
        tried: set[str] = set()
        left = self.done.undisposed
        while rows := await self._ledger.undisposed(_BATCH + len(left)):
            ids = [row.id for row in rows if row.id not in tried]
            if not ids:
                self.done.troubles.append(f"{len(rows)} originals could not be put away")
                return
            for job in ids:
                try:
                    await self._dispose(job)
                except (OSError, StorageFull) as error:
                    self.done.troubles.append(str(error))
                    left.append(job)
                else:
                    self.done.disposed += 1
            tried.update(ids)

    async def orphans(self) -> None:
        """Folders in the spool that the ledger does not know, or whose job is over."""
        found = await asyncio.to_thread(lambda: list(self._spool.jobs()))
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            known = await self._ledger.known(batch)
            for job, lies in (await asyncio.to_thread(self._contents, batch)).items():
                if job not in known:
                    await self._adopt(job, lies)
                elif AUDIO not in lies:
                    await self._clear(job)
                elif JOB not in lies:
                    await self._complete(job)

    def _contents(self, jobs: Sequence[str]) -> dict[str, set[str]]:
        return {job: self._spool.contents(job) for job in jobs}

    async def _adopt(self, job: str, lies: set[str]) -> None:
        """A recording without a row is queued; a folder without a recording goes."""
        if AUDIO in lies:
            new = await asyncio.to_thread(self._describe, job)
            row = await self._ledger.adopt(new)
            await asyncio.to_thread(self._write_job, row)
            self.done.orphans.append(row)
        elif OPTIONS not in lies:
            await asyncio.to_thread(self._spool.remove, job)
            self.done.removed += 1

    def _describe(self, job: str) -> NewJob:
        """What job.json says, or, without one, a name made of the id."""
        file = self._spool.read_job(job)
        if file is not None:
            return file.new_job()
        signature = signature_of(self._spool.audio(job).lstat())
        name = f"recovered-{job}"
        return NewJob(id=job, kind="control", name=name, signature=signature, stem=name)

    async def _clear(self, job: str) -> None:
        """What is left of a job whose original was put away just before the end."""
        row = await self._ledger.job(job)
        if row is not None and row.state in FINAL and row.disposed:
            await asyncio.to_thread(self._spool.remove, job)
            self.done.removed += 1

    async def _complete(self, job: str) -> None:
        """A retry that was cut short between the file and the row, or between row and job.json."""
        row = await self._ledger.job(job)
        if row is None:
            return
        if row.state in (JobState.FAILED, JobState.CANCELLED) and row.disposed:
            await self._ledger.retry(job)
            self.done.requeued += 1
        await asyncio.to_thread(self._write_job, row)

    def _write_job(self, row: JobRow) -> None:
        self._spool.make_known(row)
