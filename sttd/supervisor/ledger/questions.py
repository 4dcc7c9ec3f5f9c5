"""The questions of the ledger as coroutines, and how anything is asked of its thread.

The half of the facade that changes nothing; it decides nothing and keeps nothing in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from sttd.core.jobs import JobState
from sttd.supervisor.ledger import listing, queries
from sttd.supervisor.ledger.errors import LedgerError
from sttd.supervisor.ledger.group import READ, READ_NOTES, Kind, Operation
from sttd.supervisor.ledger.listing import Page
from sttd.supervisor.ledger.store import Store
from sttd.supervisor.ledger.thread import LedgerThread
from sttd.supervisor.records import Attempt, Counts, EventRow, JobRow, Selection, WorkerLife

P = ParamSpec("P")
R = TypeVar("R")


class Questions:
    """What can be asked of the thread without changing anything."""

    def __init__(self, store: Store, thread: LedgerThread) -> None:
        self._store = store
        self._thread = thread

    async def counts(self) -> Counts:
        """Jobs by state, in constant time."""
        return await self._ask(READ, queries.counts)

    async def job(self, job: str) -> JobRow | None:
        """The job of that id."""
        return await self._ask(READ, queries.job, job)

    async def job_by_key(self, key: str) -> JobRow | None:
        """The job that was submitted under that idempotency key."""
        return await self._ask(READ, queries.job_by_key, key)

    async def jobs(
        self, state: JobState | None, limit: int, before: str | None = None
    ) -> list[JobRow]:
        """All rows, newest first; `before` is the last id of the page before."""
        wish = Selection(state=state, limit=limit, before=before, strangers=True)
        return (await self.page(wish)).jobs

    async def page(self, wish: Selection) -> Page:
        """Jobs that fit, and where the listing goes on."""
        return await self._ask(READ, listing.page, wish)

    async def in_state(self, state: JobState) -> list[JobRow]:
        """All of them, oldest first; for claiming and running."""
        return await self._ask(READ, queries.in_state, state)

    async def undisposed(self, limit: int) -> list[JobRow]:
        """Finished, the original still in the spool; longest waiting first."""
        return await self._ask(READ, queries.undisposed, limit)

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are jobs."""
        return await self._ask(READ, queries.known, list(ids))

    async def tokens(self, ids: Sequence[str]) -> dict[str, str]:
        """Of those of the jobs that run, the token that they run under."""
        return await self._ask(READ, queries.tokens, list(ids))

    async def similar(self, prefix: str, limit: int = 5) -> list[str]:
        """Ids that begin or end like a mistyped one."""
        return await self._ask(READ, queries.similar, prefix, limit)

    async def attempts(self, job: str) -> list[Attempt]:
        """How the job's attempts ended, first to last."""
        return await self._ask(READ, queries.attempts, job)

    async def timeline(self, job: str) -> list[dict[str, Any]]:
        """The job's events as people read them: timestamp, event, job, worker, fields."""
        return await self._ask(READ_NOTES, queries.timeline, job)

    async def events(
        self,
        since_ns: int | None,
        limit: int,
        name: str | None = None,
        job: str | None = None,
        worker: str | None = None,
    ) -> list[EventRow]:
        """The first `limit` events since that time on the wall; None: the last of all.

        Always in the order of time; `name` is one whole name of the catalogue.
        """
        return await self._ask(
            READ_NOTES, queries.events, since_ns, limit, name=name, job=job, worker=worker
        )

    async def lives(self, limit: int, worker: str | None = None) -> list[WorkerLife]:
        """How workers ended, latest first."""
        return await self._ask(READ_NOTES, queries.lives, limit, worker=worker)

    def _ask(
        self,
        kind: Kind,
        function: Callable[Concatenate[Store, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Future[R]:
        if not self._thread.open:
            raise LedgerError(f"{self._store.path}: the ledger is not open; nothing can be asked")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._thread.ask(Operation(kind, function, args, kwargs, future))
        return future
