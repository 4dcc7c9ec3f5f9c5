"""What the core decided about a job, carried out to the end: ledger, outbox, log, in this order.

Every deed is repeated while the disk is full or the files cannot be moved; a disk that may have
lost something, and what else goes wrong, is raised. Decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sttd.core import commands as do
from sttd.core import events as on
from sttd.core.jobs import Job
from sttd.core.retry import FailureKind
from sttd.log import Log
from sttd.supervisor.durable import StorageFull, storage
from sttd.supervisor.ledger import Ledger, LedgerFull
from sttd.supervisor.outbox import StagingError
from sttd.supervisor.records import Attempt
from sttd.supervisor.settling import Settling
from sttd.wire.messages import Done

T = TypeVar("T")
AGAIN_S = 1.0  # between tries while the disk is full, or a folder is not to be had


class Deeds:
    """One for the daemon's life. `feed` takes events, `wake_in(seconds)` sets the alarm."""

    def __init__(
        self,
        ledger: Ledger,
        settling: Settling,
        log: Log,
        feed: Callable[[on.Event], None],
        wake_in: Callable[[float], None],
    ) -> None:
        self._ledger = ledger
        self._settling = settling
        self._log = log
        self._feed = feed
        self._wake_in = wake_in
        self._held: dict[object, str] = {}  # deeds that are tried again and again, and why

    async def publish(self, job: Job, worker: str, done: Done) -> None:
        """Make the outputs visible, record it, put the original away."""
        try:
            outputs = await self._settling.publish(job, done)
        except (OSError, StorageFull, StagingError, LedgerFull) as error:
            self._feed(on.PublishFailed(job.id, str(error)))
            await self.requeue(_held_up(job, worker, error))
            return
        if outputs is None:  # another attempt holds the job by now: nothing was published
            self._feed(on.Published(job.id))
            self._log.event(
                "worker.late", worker=worker, job=job.id, attempt=job.attempt, what="Publish"
            )
            return
        await self._insist(lambda: self._settling.record(job, done, outputs))
        self._feed(on.Published(job.id))
        if done.damage:
            self._log.event("job.damaged", job=job.id, source=job.name, message=done.damage)
        if done.clamped:
            self._log.event("job.clamped", job=job.id, source=job.name, segments=done.clamped)
        self._log.event(
            "job.succeeded",
            job=job.id,
            source=job.name,
            attempt=job.attempt,
            worker=worker,
            duration_s=done.duration_s,
            outputs=outputs,
        )
        await self._insist(lambda: self._settling.keep(job.id, job.file_name or job.name))

    async def _insist(self, deed: Callable[[], Awaitable[T]]) -> T:
        """Do what must be done, again and again while the disk or a folder does not let us."""
        while True:
            try:
                with storage("cannot finish a job"):
                    done = await deed()
            except (OSError, StorageFull, LedgerFull) as error:
                self._held[deed] = str(error)
                self._tell_trouble()
                await asyncio.sleep(AGAIN_S)
            else:
                if self._held.pop(deed, None) is not None:
                    self._tell_trouble()
                return done

    def _tell_trouble(self) -> None:
        """Of the one that waits longest: the others may go on meanwhile, and end nothing."""
        self._feed(on.TroubleChanged("disk", next(iter(self._held.values()), None)))

    async def put_away(self, jobs: Sequence[str]) -> None:
        """The originals of jobs that came to rest in an earlier life, and that it had to leave."""
        for job in jobs:
            await self._insist(lambda job=job: self._settling.dispose(job))  # type: ignore[misc]

    async def wake(self) -> None:
        """Deferred jobs whose time has come are queued again."""
        try:
            woken, next_s = await self._ledger.wake()
        except LedgerFull:  # they are due still; whoever could not write anything new tells of it
            self._wake_in(AGAIN_S)
            return
        if next_s is not None:
            self._wake_in(next_s)
        if woken:
            self._feed(on.JobsWaiting())

    async def requeue(self, how: do.Requeue) -> None:
        """Back into the queue, now or later."""
        job = how.job
        attempt = Attempt(
            attempt=job.attempt,
            worker=how.worker or "",
            code=how.code,
            message=how.message,
            at_ns=time.time_ns(),
            segments=how.segments - job.segments,
        )
        kept = await self._insist(
            lambda: self._ledger.requeue(
                job.id,
                job.token,
                delay_s=how.delay_s,
                failures=how.failures,
                crashes=how.crashes,
                segments=how.segments,
                interrupted=how.interrupted,
                attempt=attempt,
            )
        )
        if not kept:
            return
        name = "job.deferred" if how.delay_s > 0 else "job.requeued"
        self._log.event(
            name,
            job=job.id,
            source=job.name,
            attempt=job.attempt,
            worker=how.worker,
            code=how.code,
            message=how.message,
            delay_s=round(how.delay_s, 3),
        )
        if how.delay_s > 0:
            self._wake_in(how.delay_s)
        self._feed(on.JobsWaiting())
        # the next attempt has another folder
        await self._insist(lambda: self._settling.drop_staging(job))

    async def give_up(self, how: do.GiveUp) -> None:
        """Failed for good."""
        job = how.job
        fields = {
            "job": job.id,
            "source": job.name,
            "attempt": job.attempt,
            "worker": how.worker,
            "code": how.code,
            "message": how.message,
        }
        async with self._settling.alone(job.id):
            if not await self._insist(lambda: self._fail(how)):
                return
            try:
                await self._insist(lambda: self._settling.drop_staging(job))
                await self._insist(lambda: self._settling.put_aside(job.id))
            finally:  # whoever hears of it finds the original and its .error.json in failed/
                if how.code == "quarantined":
                    self._log.event("job.quarantined", **fields)
                self._log.event("job.failed", **fields)

    async def _fail(self, how: do.GiveUp) -> bool:
        job = how.job
        attempt = Attempt(
            attempt=job.attempt,
            worker=how.worker or "",
            code=how.attempt_code,
            message=how.message,
            at_ns=time.time_ns(),
            segments=how.segments - job.segments,
        )
        return await self._ledger.fail(
            job.id, job.token, code=how.code, message=how.message, attempt=attempt
        )

    async def cancel(self, job: Job) -> None:
        """Cancelled while it ran, or before it began to."""
        async with self._settling.alone(job.id):
            if await self._insist(lambda: self._ledger.cancel(job.id, job.token)) is None:
                return
            self._log.event("job.cancelled", job=job.id, source=job.name)
            await self._insist(lambda: self._settling.drop_staging(job))
            await self._insist(lambda: self._settling.put_aside(job.id))


def _held_up(job: Job, worker: str, error: Exception) -> do.Requeue:
    """The disk would not take the outputs: no fault of the job's, tried again in a while."""
    return do.Requeue(
        job=job,
        worker=worker,
        delay_s=30.0,
        failures=job.failures,
        crashes=job.crashes,
        segments=job.segments,
        interrupted=False,
        code=FailureKind.ENVIRONMENT.value,
        message=str(error),
    )
