"""Requests to replies: what each verb of the control socket means to the daemon.

Asks the ledger and the core, feeds the core events; decides nothing that the core should. Who may
ask what was settled before (`control`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

import msgspec

from sttd import __version__
from sttd.core import events as on
from sttd.core.jobs import FINAL, PUT_ASIDE, JobState
from sttd.core.supervision import Mode
from sttd.events import EVENTS
from sttd.log import Record
from sttd.supervisor import views as shape
from sttd.supervisor.access import Peer
from sttd.supervisor.bell import Bell
from sttd.supervisor.control import Answer
from sttd.supervisor.downloads import read_output
from sttd.supervisor.hearing import Hearing
from sttd.supervisor.intake import NO_ROOM, Intake, no_room
from sttd.supervisor.ledger import Ledger
from sttd.supervisor.loop import Loop
from sttd.supervisor.machine import resident_bytes
from sttd.supervisor.memory import Memory
from sttd.supervisor.records import EventRow, JobRow, Selection, printable
from sttd.supervisor.remembering import Remembering
from sttd.supervisor.settling import Settling
from sttd.supervisor.waiting import POLL_S, Waiting
from sttd.wire import replies as answer
from sttd.wire import requests as ask
from sttd.wire import views
from sttd.wire.codes import Code

RETRY_BATCH = 500
CANCEL_S = 5.0  # beyond the worker's grace


class Handlers:
    """One object for the daemon's life; `handle` is what the control socket calls."""

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        intake: Intake,
        settling: Settling,
        reload: Callable[[], Awaitable[answer.Reply]],
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._settling = settling
        self._reload = reload
        self._started = time.monotonic()
        self._bell = Bell()
        self._waiting = Waiting(ledger, self._bell)
        memory = Memory(loop)
        past = Remembering(loop, ledger, settling, self._unknown)
        self._hearing = Hearing(loop, ledger, settling, self._unknown)
        self._verbs: dict[type[msgspec.Struct], Callable[..., Awaitable[Answer]]] = {
            ask.Status: self._status,
            ask.Drain: self._drain,
            ask.WaitDrained: self._wait_drained,
            ask.Resume: self._resume,
            ask.Jobs: self._jobs,
            ask.Show: self._show,
            ask.Wait: self._wait,
            ask.Segments: self._hearing.segments,
            ask.Cancel: self._cancel,
            ask.Retry: self._retry,
            ask.Workers: self._workers,
            ask.Lives: past.lives,
            ask.Why: past.why,
            ask.Config: past.config,
            ask.Memory: memory.now,
            ask.MemoryHistory: memory.history,
            ask.Recycle: self._recycle,
            ask.Scale: self._scale,
            ask.Reload: self._reload_config,
            ask.Events: self._events,
            ask.Version: self._version,
            ask.Fetch: self._fetch,
            ask.SubmitPath: intake.by_path,
            ask.SubmitUrl: intake.by_url,
        }

    async def handle(self, request: ask.Request, peer: Peer) -> Answer:
        """The answer to one request."""
        try:
            return await self._verbs[type(request)](request, peer)
        except NO_ROOM as error:
            return no_room(error)

    def rang(self, event: str, record: Record) -> None:
        """Something was announced: whoever waits looks again."""
        self._hearing.rang(record)
        if event.startswith(("job.", "daemon.")):
            self._bell.ring()

    # -- the whole -----------------------------------------------------------------------------
    async def _status(self, _request: ask.Status, _peer: Peer) -> answer.Reply:
        core, loop = self._loop.core, self._loop
        counts = await self._ledger.counts()
        status = views.StatusView(
            daemon=views.DaemonView(
                pid=os.getpid(),
                version=__version__,
                state=core.state,
                uptime_s=round(time.monotonic() - self._started, 3),
                rss_bytes=resident_bytes(),
                reasons=tuple(core.troubles.values()),
            ),
            pool=shape.pool_view(core, self._worker_views(), loop.cgroups.folder, loop.cgroups.why),
            sandbox=shape.sandbox_view(loop.pool.walls),
            queue=shape.queue_view(counts),
            recycles=shape.recycles_view(core),
            engine=views.EngineView(
                name=loop.engine[0] or loop.settings.engine.name,
                state=core.health.state.value,
                detail=core.health.detail,
                sessions=core.staff.busy(),
                max_sessions=core.health.ceiling(),
            ),
        )
        return answer.Status(status)

    def _worker_views(self) -> tuple[views.WorkerView, ...]:
        now = asyncio.get_running_loop().time()
        sampling = self._loop.sampling
        return tuple(
            shape.worker_view(worker, now, sampling.pss_bytes(worker.id))
            for worker in self._loop.core.staff.workers.values()
        )

    def _drain_view(self) -> answer.Reply:
        core = self._loop.core
        running = core.staff.busy() + len(core.work.publishing)
        return answer.Drained(views.DrainView(state=core.state, running=running))

    async def _drain(self, _request: ask.Drain, _peer: Peer) -> answer.Reply:
        self._loop.feed(on.DrainRequested())
        return self._drain_view()

    async def _wait_drained(self, request: ask.WaitDrained, _peer: Peer) -> answer.Reply:
        core = self._loop.core
        await self._until(
            lambda: core.mode is Mode.RUNNING or core.work.at_rest(), request.timeout_s
        )
        return self._drain_view()

    async def _resume(self, _request: ask.Resume, _peer: Peer) -> answer.Reply:
        self._loop.feed(on.ResumeRequested())
        return self._drain_view()

    async def _version(self, _request: ask.Version, _peer: Peer) -> answer.Reply:
        endpoint = self._loop.settings.control.events
        return answer.Version(
            views.VersionView(version=__version__, protocol=ask.PROTOCOL, events_endpoint=endpoint)
        )

    async def _reload_config(self, _request: ask.Reload, _peer: Peer) -> answer.Reply:
        return await self._reload()

    async def _events(self, request: ask.Events, _peer: Peer) -> answer.Reply:
        rows: list[EventRow] = []
        for name in _names(request.events):
            rows += await self._ledger.events(
                shape.nanoseconds(request.since), request.limit, name, request.job, request.worker
            )
        rows.sort(key=lambda row: row.at_ns)
        kept = rows[-request.limit :] if request.since is None else rows[: request.limit]
        return answer.Events(views.EventsView(events=tuple(shape.event_view(r) for r in kept)))

    # -- workers -------------------------------------------------------------------------------
    async def _workers(self, _request: ask.Workers, _peer: Peer) -> answer.Reply:
        return answer.Workers(views.WorkersView(workers=self._worker_views()))

    async def _recycle(self, request: ask.Recycle, _peer: Peer) -> answer.Reply:
        workers = self._loop.core.staff.workers
        if request.worker is not None and request.worker not in workers:
            hint = f"workers are {', '.join(workers)}" if workers else "there are no workers now"
            return answer.Error.of(Code.UNKNOWN_WORKER, f"no worker {request.worker}", hint)
        told = tuple(workers) if request.worker is None else (request.worker,)
        self._loop.feed(on.RecycleRequested(request.worker))
        return answer.Recycling(views.RecycleView(workers=told))

    async def _scale(self, request: ask.Scale, _peer: Peer) -> answer.Reply:
        previous = self._loop.core.staff.target
        self._loop.feed(on.ScaleRequested(request.workers))
        return answer.Scaled(views.ScaleView(configured=request.workers, previous=previous))

    # -- jobs ----------------------------------------------------------------------------------
    async def _jobs(self, request: ask.Jobs, _peer: Peer) -> answer.Reply:
        wish = Selection(
            limit=request.limit,
            state=JobState(request.state) if request.state else None,
            before=request.before,
            after=request.after,
            oldest=request.order == "oldest",
            since_ns=shape.nanoseconds(request.since),
            until_ns=shape.nanoseconds(request.until),
            name=request.name,
            kind=request.kind,
            key=request.key,
        )
        page = await self._ledger.page(wish)
        jobs = tuple(shape.job_view(row, self._loop.core) for row in page.jobs)
        return answer.Jobs(views.JobsView(jobs=jobs, next=page.next))

    async def _show(self, request: ask.Show, _peer: Peer) -> answer.Reply:
        row = await self._ledger.job(request.job)
        if row is None:
            return await self._unknown(request.job)
        timeline = await self._ledger.timeline(request.job)
        return answer.Detail(
            shape.detail_view(row, self._loop.core, timeline, asyncio.get_running_loop().time())
        )

    async def _wait(self, request: ask.Wait, _peer: Peer) -> answer.Reply:
        rows = await self._waiting.at_rest(request.jobs, request.timeout_s)
        for job in request.jobs:
            if job not in rows:
                return await self._unknown(job)
        jobs = tuple(shape.job_view(rows[job], self._loop.core) for job in request.jobs)
        return answer.Jobs(views.JobsView(jobs=jobs))

    async def _cancel(self, request: ask.Cancel, _peer: Peer) -> answer.Reply:
        deadline = time.monotonic() + self._loop.settings.recycle.grace + CANCEL_S
        while True:
            row = await self._ledger.job(request.job)
            if row is None:
                return await self._unknown(request.job)
            if row.state is JobState.RUNNING:
                self._loop.feed(on.CancelRequested(row.id))
            elif row.state not in FINAL:
                await self._cancel_waiting(row)
            left_s = deadline - time.monotonic()
            # between two attempts it is with nobody for a moment: it is asked for again
            rows = await self._waiting.at_rest([row.id], max(0.0, min(POLL_S, left_s)))
            row = rows.get(row.id, row)
            if row.state in FINAL or left_s <= 0:
                break
        if row.state is JobState.CANCELLED:
            return answer.OneJob(shape.job_view(row))
        return answer.Error.of(
            Code.WRONG_STATE, f"job {row.id} is {row.state.value}", "only waiting or running jobs"
        )

    async def _cancel_waiting(self, row: JobRow) -> None:
        async with self._settling.alone(row.id):
            if await self._ledger.cancel(row.id, None) is not None:
                self._loop.log.event("job.cancelled", job=row.id, source=row.name)
                await self._settling.put_aside(row.id)

    async def _retry(self, request: ask.Retry, _peer: Peer) -> answer.Reply:
        if request.job is None:
            return answer.Retried(views.RetriedView(retried=await self._retry_all()))
        row = await self._ledger.job(request.job)
        if row is None:
            return await self._unknown(request.job)
        if objection := self._settling.objection(row):
            return answer.Error.of(Code.WRONG_STATE, f"job {row.id}: {objection}")
        retried = row.state in PUT_ASIDE and await self._retry_one(row)
        row = await self._ledger.job(row.id) or row
        if retried:
            return answer.OneJob(shape.job_view(row))
        if row.state in PUT_ASIDE:
            message = f"the original of job {row.id} is gone from {row.original}"
            return answer.Error.of(Code.WRONG_STATE, message, "submit the recording again")
        message = f"job {row.id} is {row.state.value}"
        return answer.Error.of(Code.WRONG_STATE, message, "only failed or cancelled jobs")

    async def _retry_all(self) -> int:
        count, before = 0, None
        while rows := await self._ledger.jobs(JobState.FAILED, RETRY_BATCH, before):
            for row in rows:
                if not self._settling.objection(row):
                    count += await self._retry_one(row)
            before = rows[-1].id
        return count

    async def _retry_one(self, row: JobRow) -> bool:
        if not await self._settling.retry(row.id):
            return False
        self._loop.log.event(
            "job.requeued",
            job=row.id,
            source=row.name,
            attempt=row.attempt,
            worker=None,
            code="retry",
            message="asked by an operator",
            delay_s=0.0,
        )
        self._loop.feed(on.JobsWaiting())
        return True

    # -- outputs -------------------------------------------------------------------------------
    async def _fetch(self, request: ask.Fetch, _peer: Peer) -> Answer:
        row = await self._ledger.job(request.job)
        if row is None:
            return await self._unknown(request.job)
        for output in row.outputs:
            if printable(output) == request.output:
                outbox = self._loop.settings.outbox_dir
                return await read_output(outbox, output, request.offset)
        return answer.Error.of(Code.UNKNOWN_OUTPUT, f"job {row.id} has no output {request.output}")

    # -- helpers -------------------------------------------------------------------------------
    async def _unknown(self, job: str) -> answer.Reply:
        near = await self._ledger.similar(job)
        hint = f"did you mean {', '.join(near)}?" if near else "sttctl jobs lists them"
        return answer.Error.of(Code.UNKNOWN_JOB, f"no job {job}", hint)

    async def _until(self, true: Callable[[], bool], timeout_s: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not true() and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await self._bell.wait(self._bell.ticket(), min(left, POLL_S))


def _names(wanted: tuple[str, ...]) -> list[str | None]:
    """Whole names from names and families ("job"); [None] for all."""
    names = [n for n in EVENTS for w in wanted if n == w or n.startswith(f"{w}.")]
    return [*names] if wanted else [None]
