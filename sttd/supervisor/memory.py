"""Answers about memory: `sttctl memory`, its picture, and what the workers say of themselves.

Shapes what the core, the samples and the workers know; decides nothing.
"""

from __future__ import annotations

import asyncio
import time

from sttd.core.forecast import Outlook, forecast
from sttd.core.recycling import most_requests
from sttd.core.workers import Worker, WorkerState
from sttd.supervisor.access import Peer
from sttd.supervisor.loop import Loop
from sttd.supervisor.machine import resident_bytes
from sttd.supervisor.shares import Shares, shares
from sttd.supervisor.views import instant
from sttd.wire import memory as shape
from sttd.wire import replies as answer
from sttd.wire import requests as ask

ASKABLE = frozenset({WorkerState.IDLE, WorkerState.STANDBY})


class Memory:
    """The handlers of `memory` and `memory_history`."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def now(self, request: ask.Memory, _peer: Peer) -> answer.Reply:
        """Every worker's memory; idle workers are asked what is in it, busy ones left alone."""
        core = self._loop.core
        policy = core.staff.policy
        workers = list(core.staff.workers.values())
        views = await asyncio.gather(*(self._worker(one, deep=request.deep) for one in workers))
        per_job, per_minute = core.work.growth.line()
        return answer.Memory(
            shape.MemoryView(
                soft_bytes=policy.rss_soft,
                ceiling_bytes=policy.rss_ceiling,
                daemon_rss_bytes=resident_bytes(),
                slope=shape.SlopeView(
                    jobs=len(core.work.growth),
                    per_job_bytes=round(per_job, 1),
                    per_audio_minute_bytes=round(per_minute, 1),
                    next_job_bytes=core.work.growth.expected(None),
                ),
                workers=tuple(views),
            )
        )

    async def history(self, _request: ask.MemoryHistory, _peer: Peer) -> answer.Reply:
        """The curves that are remembered."""
        policy = self._loop.core.staff.policy
        now = asyncio.get_running_loop().time()
        curves = tuple(
            shape.CurveView(
                worker=curve.worker,
                ended=curve.ended,
                killed=curve.killed,
                points=tuple(
                    (round(min(0.0, at - now), 3), size)
                    for at, size in zip(curve.times, curve.sizes, strict=True)
                ),
            )
            for curve in self._loop.history.curves()
        )
        return answer.Curves(
            shape.CurvesView(
                now=instant(time.time_ns()) or "",
                soft_bytes=policy.rss_soft,
                ceiling_bytes=policy.rss_ceiling,
                curves=curves,
            )
        )

    async def _worker(self, worker: Worker, *, deep: bool) -> shape.WorkerMemoryView:
        heap, not_asked = None, f"it is {worker.state.value}"
        if worker.state in ASKABLE:
            heap = await self._loop.inspections.ask(worker.id, deep=deep)
            not_asked = "" if heap else "it did not answer: it got a job, or has left"
        own = await asyncio.to_thread(shares, worker.pid) if worker.pid else Shares()
        return self._shaped(worker, own, heap, not_asked)

    def _shaped(
        self, worker: Worker, own: Shares, heap: shape.HeapView | None, not_asked: str
    ) -> shape.WorkerMemoryView:
        core = self._loop.core
        policy, rss = core.staff.policy, worker.vitals.rss_bytes
        leak = (worker.tidy - worker.base) / worker.requests if worker.requests else None
        return shape.WorkerMemoryView(
            id=worker.id,
            pid=worker.pid or 0,
            state=worker.state.value,
            jobs=worker.requests,
            rss_bytes=rss,
            peak_rss_bytes=worker.vitals.peak_rss_bytes,
            pss_bytes=own.pss,
            uss_bytes=own.uss,
            leak_per_job_bytes=None if leak is None else round(leak, 1),
            soft_room_bytes=policy.rss_soft - rss if policy.rss_soft else None,
            ceiling_room_bytes=policy.rss_ceiling - rss if policy.rss_ceiling else None,
            forecast=self._forecast(worker),
            heap=heap,
            not_asked=not_asked,
        )

    def _forecast(self, worker: Worker) -> shape.ForecastView | None:
        core = self._loop.core
        found = forecast(
            core.staff.policy,
            Outlook(
                requests=worker.requests,
                max_requests=most_requests(core.staff.policy, worker.extra),
                rss_bytes=worker.vitals.rss_bytes,
                age_s=asyncio.get_running_loop().time() - worker.started,
                grows_bytes=core.work.growth.expected(None),
                due=worker.ending or worker.due,
            ),
        )
        if found is None:
            return None
        in_s = None if found.in_s is None else round(found.in_s, 1)
        return shape.ForecastView(reason=found.reason, in_jobs=found.in_jobs, in_s=in_s)
