"""From a committed claim to an accepted job: steps 5 to 9, for the daemon and for its recovery.

Takes the recordings of `claiming` rows, then commits what became of each: accepted, withdrawn,
failed at once (too large, an invalid sidecar), or held because somebody still writes it. May be
repeated with the same rows after any crash or error. Finds nothing and refuses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from sttd.core.jobs import JobState
from sttd.supervisor import claim
from sttd.supervisor.claim import Held, Outcome, Taken, Withdrawn
from sttd.supervisor.durable import Syncer
from sttd.supervisor.inbox import Inbox
from sttd.supervisor.records import Attempt, JobRow
from sttd.supervisor.spool import Spool
from sttd.wire.codes import Code


class ClaimLedger(Protocol):
    """What acceptance needs of the ledger."""

    async def accept(self, ids: Sequence[str]) -> None:
        """Move claiming rows to queued."""

    async def withdraw(self, ids: Sequence[str]) -> None:
        """Move claiming rows to withdrawn."""

    async def fail(
        self, job: str, token: str | None, *, code: str, message: str, attempt: Attempt | None
    ) -> bool:
        """Move a claiming row to failed."""
        ...


@dataclass
class Settled:
    """What became of claims."""

    accepted: list[JobRow] = field(default_factory=list)
    failed: list[JobRow] = field(default_factory=list)
    withdrawn: list[Withdrawn] = field(default_factory=list)
    held: list[JobRow] = field(default_factory=list)


class Acceptance:
    """Settles claims. `max_file_size` in bytes; `dispose` puts away what a failed job leaves."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        spool: Spool,
        ledger: ClaimLedger,
        syncer: Syncer,
        dispose: Callable[[str], Awaitable[object]],
        max_file_size: int,
    ) -> None:
        self._inbox = inbox
        self._spool = spool
        self._ledger = ledger
        self._syncer = syncer
        self._dispose = dispose
        self.max_file_size = max_file_size

    async def settle(self, rows: Sequence[JobRow]) -> Settled:
        """Take the recordings of these claiming rows and commit the outcome.

        Raises InboxUnavailable, StorageFull and LedgerFull (nothing is lost; give the same rows
        again later), StorageBroken and LedgerBroken.
        """
        outcomes = await asyncio.to_thread(self._take, rows)
        settled = Settled()
        refused: list[tuple[JobRow, Code, str]] = []
        for one in outcomes:
            match one:
                case Taken(row):
                    verdict = self._verdict(one)
                    if verdict is None:
                        settled.accepted.append(row)
                    else:
                        refused.append((row, *verdict))
                case Withdrawn():
                    settled.withdrawn.append(one)
                case Held(row):
                    settled.held.append(row)
        await self._commit(settled, refused)
        return settled

    async def _commit(self, settled: Settled, refused: list[tuple[JobRow, Code, str]]) -> None:
        """All in one group commit; then tell the rows as they are now."""
        ledger = self._ledger
        accepted = [row.id for row in settled.accepted]
        withdrawn = [one.row.id for one in settled.withdrawn]
        await asyncio.gather(
            *([ledger.accept(accepted)] if accepted else []),
            *([ledger.withdraw(withdrawn)] if withdrawn else []),
            *(
                ledger.fail(row.id, None, code=code.value, message=message, attempt=None)
                for row, code, message in refused
            ),
        )
        settled.accepted = [
            msgspec.structs.replace(row, state=JobState.QUEUED) for row in settled.accepted
        ]
        for row, code, message in refused:
            settled.failed.append(
                msgspec.structs.replace(
                    row, state=JobState.FAILED, error_code=code.value, error_message=message
                )
            )
            await self._dispose(row.id)

    def _verdict(self, taken: Taken) -> tuple[Code, str] | None:
        if taken.size > self.max_file_size:
            message = f"{taken.size} bytes; limits.max_file_size admits {self.max_file_size}"
            return Code.TOO_LARGE, message
        return None if taken.flaw is None else (Code.BAD_SIDECAR, taken.flaw)

    def _take(self, rows: Sequence[JobRow]) -> list[Outcome]:
        arrived = [row for row in rows if row.kind == "inbox"]
        outcomes = self._inbox.take(arrived) if arrived else []
        for row in rows:
            if row.kind != "inbox":
                upload = self._spool.find_upload(row.signature)
                outcomes.append(claim.take_upload(row, upload, self._spool, self._syncer))
        return outcomes
