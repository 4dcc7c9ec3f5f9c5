"""Submissions over the control socket: a whole file in the spool becomes an accepted job.

Answers only after the durable commit; a known key gives the known job and the bytes are dropped.
What is not settled yet is no answer: whoever asks under the same key meanwhile waits for its end.
Receives no bytes itself (`uploads` does) and judges no right of the caller but that to a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from sttd.core.jobs import JobState
from sttd.supervisor import durable, names
from sttd.supervisor.acceptance import Acceptance, ClaimLedger, Settled
from sttd.supervisor.durable import StorageFull
from sttd.supervisor.ledger import LedgerFull
from sttd.supervisor.locks import Locks
from sttd.supervisor.records import JobRow, NewJob, Signature
from sttd.supervisor.reference import copy_in
from sttd.supervisor.room import Room
from sttd.supervisor.spool import Spool, signature_of
from sttd.supervisor.uuid7 import new_id
from sttd.wire import options as job_options
from sttd.wire.options import JobOptions


class UnsettledError(Exception):
    """What was submitted under this key before is no job yet, and may never be one."""


class SubmissionLedger(ClaimLedger, Protocol):
    """What submissions need of the ledger."""

    async def begin(self, new: Sequence[NewJob]) -> list[JobRow]:
        """Record as claiming; the existing row of a known key."""
        ...

    async def job_by_key(self, key: str) -> JobRow | None:
        """The job that was submitted under that key."""
        ...


class Submissions:
    """Makes jobs of files.

    `tell` is called with what became of each; `hand_over` with a claim that an error has left
    open and that is to be settled later. `allow_paths`: whose files may be given by path.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        ledger: SubmissionLedger,
        acceptance: Acceptance,
        room: Room,
        tell: Callable[[Settled], None],
        hand_over: Callable[[JobRow], None],
        allow_paths: Sequence[Path] = (),
    ) -> None:
        self.allow_paths = allow_paths
        self._spool = spool
        self._ledger = ledger
        self._acceptance = acceptance
        self._room = room
        self._tell = tell
        self._hand_over = hand_over
        self._under_way = 0
        self._locks = Locks()  # by key

    async def admit(self, key: str | None) -> JobRow | None:
        """The job that is known under this key; None when a new one may be submitted.

        Raises QueueFullError or BelowFloorError when there is no room for it, OSError when its
        disk is away, UnsettledError when it cannot be told yet.
        """
        async with self._alone(key):
            known = await self._known(key)
        if known is None:
            await self._room.left(self._under_way)
        return known

    async def accept_path(
        self, path: Path, *, options: str, priority: int | None, key: str | None, uid: int | None
    ) -> tuple[JobRow, bool]:
        """A job of a copy of the file at `path`; else as `accept_upload`.

        Raises RefusedError when the file cannot be taken by reference.
        """
        job_options.decode(options)
        known = await self.admit(key)
        if known is not None:
            return known, True
        copy = self._spool.new_upload()
        try:
            await asyncio.to_thread(
                copy_in,
                path,
                copy,
                allowed=self.allow_paths,
                uid=uid,
                max_bytes=self._acceptance.max_file_size,
            )
            return await self.accept_upload(
                copy, name=path.name, options=options, priority=priority, key=key, uid=uid
            )
        finally:
            await asyncio.to_thread(copy.unlink, missing_ok=True)

    async def accept_upload(
        self,
        path: Path,
        *,
        name: str,
        options: str = "{}",
        priority: int | None = None,
        key: str | None = None,
        uid: int | None = None,
        kind: Literal["control", "url"] = "control",
    ) -> tuple[JobRow, bool]:
        """A job of the whole file at `path` (of `spool.new_upload`), which is moved or deleted.

        `options` are those of a sidecar, as JSON; what they say of priority yields to `priority`.
        Returns the job, durably accepted, and whether its key was known before. Raises
        OptionsError, StorageFull, LedgerFull, and as `admit`: then there is no job.
        """
        wishes = job_options.decode(options)
        async with self._alone(key):
            known = await self._known(key)
            if known is None:
                make = partial(_new_job, name, wishes, priority, key, uid, kind)
                return await self._accept(path, make), False
        await asyncio.to_thread(path.unlink, missing_ok=True)
        return known, True

    def _alone(self, key: str | None) -> AbstractAsyncContextManager[object]:
        """Held from the look for a key until its job is settled."""
        return nullcontext() if key is None else self._locks.of(key)

    async def _known(self, key: str | None) -> JobRow | None:
        """Held: `_alone`. So a claim that is found open is one that an error has left so."""
        known = await self._ledger.job_by_key(key) if key is not None else None
        if known is not None and known.state is JobState.CLAIMING:
            raise UnsettledError(f"what was submitted as {key!r} before is not settled yet")
        return known

    async def _accept(self, path: Path, make: Callable[[Signature], NewJob]) -> JobRow:
        self._under_way += 1  # before there is anything to wait for: those who ask now are many
        try:
            await self._room.left(self._under_way - 1)
            [row] = await self._ledger.begin([make(await asyncio.to_thread(self._sync, path))])
            return await self._settle(row)
        finally:
            self._under_way -= 1

    def _sync(self, path: Path) -> Signature:
        """From here on the row may point to the file."""
        durable.sync_path(path)
        durable.sync_folder(path.parent)
        return signature_of(path.lstat())

    async def _settle(self, row: JobRow) -> JobRow:
        try:
            settled = await self._acceptance.settle([row])
        except (StorageFull, LedgerFull, OSError):
            await self._undo(row)
            raise
        self._tell(settled)
        if settled.withdrawn:
            raise OSError(f"{row.name}: {settled.withdrawn[0].reason}")
        return (settled.accepted + settled.failed)[0]

    async def _undo(self, row: JobRow) -> None:
        """The client is told that it failed, so there is to be no job; if that can be recorded."""
        try:
            await self._ledger.withdraw([row.id])
        except LedgerFull:
            self._hand_over(row)
        else:
            await asyncio.to_thread(self._spool.remove, row.id)


def _new_job(
    name: str,
    wishes: JobOptions,
    priority: int | None,
    key: str | None,
    uid: int | None,
    kind: Literal["control", "url"],
    signature: Signature,
) -> NewJob:
    base = names.submitted(name)
    return NewJob(
        id=new_id(),
        kind=kind,
        name=base,
        signature=signature,
        stem=names.stem_of(base),
        options=job_options.encode(wishes),
        priority=wishes.priority if priority is None else priority,
        key=key,
        uid=uid,
    )
