"""Submissions over the control socket, as the socket and the uploads need them: replies.

Shapes answers; what a submission is and how it becomes durable is `submissions`' business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path, PurePath

import msgspec

from sttd.supervisor import views as shape
from sttd.supervisor.access import Peer
from sttd.supervisor.arrivals import Arrivals, QueueFullError, RefusedError
from sttd.supervisor.durable import StorageFull
from sttd.supervisor.fetches import FetchError, Fetches, name_of
from sttd.supervisor.ledger import LedgerFull
from sttd.supervisor.records import JobRow
from sttd.supervisor.room import BelowFloorError
from sttd.supervisor.submissions import UnsettledError
from sttd.wire import options as job_options
from sttd.wire import replies as answer
from sttd.wire import requests as ask
from sttd.wire import views
from sttd.wire.codes import Code

HINTS = {
    Code.DISABLED: "download it and submit the file",
    Code.NOT_ALLOWED: "see [url] in docs/configuration.md, or download it and submit the file",
    Code.BUSY: "try again in a moment",
    Code.ENVIRONMENT: "make room on the disk",
}
NO_ROOM = (StorageFull, LedgerFull)
# Whatever else a submission meets passes as it is: a broken disk or ledger, and our own mistakes.
REFUSALS = (
    job_options.OptionsError,
    QueueFullError,
    RefusedError,
    UnsettledError,
    FetchError,
    OSError,
    *NO_ROOM,
)


class Intake:
    """One for the daemon's life."""

    def __init__(self, arrivals: Arrivals, fetches: Fetches) -> None:
        self._arrivals = arrivals
        self._fetches = fetches

    async def admit(self, request: ask.SubmitOpen, _peer: Peer) -> answer.Reply | None:
        """Before the bytes come: bad options, a known key, a full queue; None: go on."""
        try:
            job_options.convert(request.options)
            known = await self._arrivals.admit(request.key)
        except REFUSALS as error:
            return _refusal(error)
        return None if known is None else _submitted(known, duplicate=True)

    async def accept(self, path: Path, request: ask.SubmitOpen, peer: Peer) -> answer.Reply:
        """The bytes are there: make a job of them."""
        return await _answered(
            self._arrivals.accept_upload(
                path,
                name=PurePath(request.name).name or "unnamed",
                options=msgspec.json.encode(request.options).decode(),
                priority=request.priority,
                key=request.key,
                uid=peer.uid,
            )
        )

    async def by_path(self, request: ask.SubmitPath, peer: Peer) -> answer.Reply:
        """A file on this machine."""
        return await _answered(
            self._arrivals.accept_path(
                Path(request.path),
                options=msgspec.json.encode(request.options).decode(),
                priority=request.priority,
                key=request.key,
                uid=peer.uid,
            )
        )

    async def by_url(self, request: ask.SubmitUrl, peer: Peer) -> answer.Reply:
        """A recording to be fetched; answered when it is here and durable, or refused."""
        return await _answered(self._fetched(request, peer))

    async def _fetched(self, request: ask.SubmitUrl, peer: Peer) -> tuple[JobRow, bool]:
        job_options.convert(request.options)
        known = await self._arrivals.admit(request.key)
        if known is not None:
            return known, True
        path = await self._fetches.fetch(request.url)
        try:
            return await self._arrivals.accept_upload(
                path,
                name=name_of(request.url),
                options=msgspec.json.encode(request.options).decode(),
                priority=request.priority,
                key=request.key,
                uid=peer.uid,
                kind="url",
            )
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)


async def _answered(accepted: Awaitable[tuple[JobRow, bool]]) -> answer.Reply:
    try:
        row, duplicate = await accepted
    except REFUSALS as error:
        return _refusal(error)
    return _submitted(row, duplicate=duplicate)


def _submitted(row: JobRow, *, duplicate: bool) -> answer.Reply:
    job = msgspec.structs.asdict(shape.job_view(row))
    return answer.Submitted(views.SubmittedView(**job, duplicate=duplicate))


def _refusal(error: Exception) -> answer.Reply:
    match error:
        case job_options.OptionsError():
            return answer.Error.of(Code.BAD_OPTIONS, str(error), "see docs/protocol.md")
        case FetchError():
            return answer.Error.of(error.code, str(error), HINTS.get(error.code, ""))
        case RefusedError():
            return answer.Error.of(Code.NOT_ALLOWED, str(error), "send the bytes instead")
        case UnsettledError():
            return answer.Error.of(Code.BUSY, str(error), HINTS[Code.BUSY])
        case QueueFullError():
            return answer.Error.of(Code.QUEUE_FULL, str(error), "wait, or raise limits.max_queued")
        case BelowFloorError():
            hint = "make room, or lower limits.min_free_disk"
            return answer.Error.of(Code.ENVIRONMENT, str(error), hint)
        case OSError():
            hint = "see that the disks of state_dir and outbox.path are there and can be written"
            return answer.Error.of(Code.ENVIRONMENT, str(error), hint)
        case _:
            return no_room(error)


def no_room(error: Exception) -> answer.Reply:
    """What is answered to any request that the disk has no room for: nothing has changed."""
    return answer.Error.of(Code.ENVIRONMENT, str(error), HINTS[Code.ENVIRONMENT])
