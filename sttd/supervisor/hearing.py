"""Who listens to a job: answers `segments` requests, held until there is something to tell.

Reads the journal off the event loop, a bounded piece at a time; keeps nothing of it. Of a job that
is over it tells how it stands, and clients fetch the transcript.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from sttd.core.jobs import FINAL
from sttd.log import Record
from sttd.supervisor import said
from sttd.supervisor import views as shape
from sttd.supervisor.access import Peer
from sttd.supervisor.ledger import Ledger
from sttd.supervisor.loop import Loop
from sttd.supervisor.settling import Settling
from sttd.wire import replies as answer
from sttd.wire import requests as ask
from sttd.wire import views
from sttd.wire.codes import Code

LOOK_S = 0.1  # how often the job's run is looked at, in memory, for segments that nobody rang for
AT_ONCE = 4  # journals read at the same time: what bounds the memory

Unknown = Callable[[str], Awaitable[answer.Reply]]


class Hearing:
    """One for the daemon's life."""

    def __init__(self, loop: Loop, ledger: Ledger, settling: Settling, unknown: Unknown) -> None:
        self._loop = loop
        self._ledger = ledger
        self._settling = settling
        self._unknown = unknown
        self._tickets: dict[str, set[asyncio.Future[None]]] = {}  # by job; resolved by news
        self._reading = asyncio.Semaphore(AT_ONCE)

    def rang(self, record: Record) -> None:
        """Something was announced about a job."""
        for ticket in self._tickets.get(str(record.get("job")), ()):
            if not ticket.done():
                ticket.set_result(None)

    async def segments(self, request: ask.Segments, _peer: Peer) -> answer.Reply:
        """What is new since the cursor; nothing when the time is over first."""
        try:
            cursor = said.Cursor.parse(request.cursor)
        except ValueError as error:
            return answer.Error.of(Code.BAD_REQUEST, str(error))
        deadline = self._now() + request.timeout_s
        while True:
            with self._ticket(request.job) as ticket:
                mark = self._mark(request.job)
                reply = await self._look(request.job, cursor, hold=self._now() < deadline)
                if reply is not None:
                    return reply
                await self._news(request.job, ticket, mark, deadline)

    @contextlib.contextmanager
    def _ticket(self, job: str) -> Iterator[asyncio.Future[None]]:
        """Resolved at the next event of the job; taken before one looks, so that none is missed."""
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets.setdefault(job, set()).add(ticket)
        try:
            yield ticket
        finally:
            others = self._tickets[job]
            others.discard(ticket)
            if not others:
                del self._tickets[job]

    async def _look(
        self, job: str, cursor: said.Cursor | None, *, hold: bool
    ) -> answer.Reply | None:
        """The answer as things are; None when there is nothing new and `hold`."""
        row = await self._ledger.job(job)
        if row is None:
            return await self._unknown(job)
        async with self._reading:
            piece = await asyncio.to_thread(said.read, self._settling.journal(job), cursor)
        if hold and not (piece.segments or piece.restarted or row.state in FINAL):
            return None
        return answer.Segments(
            views.SegmentsView(
                job=shape.job_view(row, self._loop.core),
                segments=piece.segments,
                cursor=str(piece.cursor or ""),
                restarted=piece.restarted,
            )
        )

    async def _news(
        self,
        job: str,
        ticket: asyncio.Future[None],
        mark: tuple[int, int] | None,
        deadline: float,
    ) -> None:
        """Until there was an event, the run has said more, or the time is over."""
        while not ticket.done() and self._mark(job) == mark:
            left = deadline - self._now()
            if left <= 0:
                return
            await asyncio.wait([ticket], timeout=min(LOOK_S, left))

    def _mark(self, job: str) -> tuple[int, int] | None:
        run = shape.run_of(self._loop.core, job)
        return None if run is None else (run.job.attempt, run.segments)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
