"""Answers about the past: how workers' lives ended, why a job failed; and what is configured.

Reads the ledger, the spool and failed/; changes nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from sttd.config.problems import is_secretive
from sttd.config.schema import flatten, text_of
from sttd.core.workers import Worker
from sttd.supervisor import views as shape
from sttd.supervisor.access import Peer
from sttd.supervisor.ledger import Ledger
from sttd.supervisor.loop import Loop
from sttd.supervisor.records import Attempt, JobRow, WorkerLife
from sttd.supervisor.settling import Settling
from sttd.wire import lives as view
from sttd.wire import replies as answer
from sttd.wire import requests as ask
from sttd.wire.codes import Code

WORKER = re.compile(r"w-\d+")  # what a worker's id looks like; no job's does
MOST_EVENTS = 200
MOST_LIVES = 50  # of one worker name: each start of the daemon counts from w-1 again
SLACK_NS = 5 * 10**9  # lives and attempts are written down a moment after they end
LARGEST_REPORT = 8 << 20  # bytes of an error.json


class Remembering:
    """The handlers of `lives`, `why` and `config`."""

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        settling: Settling,
        unknown: Callable[[str], Awaitable[answer.Reply]],
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._settling = settling
        self._unknown = unknown  # the answer for an id that nobody knows

    async def lives(self, request: ask.Lives, _peer: Peer) -> answer.Reply:
        """Lives that are over, the latest first."""
        found = await self._ledger.lives(request.limit, request.worker)
        return answer.Lives(view.LivesView(lives=tuple(map(life_view, found))))

    async def config(self, _request: ask.Config, _peer: Peer) -> answer.Reply:
        """The values in force and their origins; what may be a secret is not shown."""
        settings = self._loop.settings
        entries = (
            view.SettingView(
                key=key,
                value="(not shown)" if is_secretive(key) and value else text_of(key, value),
                origin=settings.origins.get(key, "default"),
            )
            for key, value in flatten(settings).items()
        )
        return answer.Config(view.ConfigView(settings=tuple(entries)))

    async def why(self, request: ask.Why, _peer: Peer) -> answer.Reply:
        """All that is known of a worker (w-17), else of a job."""
        worker = self._loop.core.staff.workers.get(request.about)
        if worker is not None:
            return answer.Explained(await self._living(worker))
        row = await self._ledger.job(request.about)
        if row is not None:
            return answer.Explained(await self._job(row))
        found = await self._ledger.lives(1, request.about)
        if found:
            return answer.Explained(await self._over(found[0]))
        if WORKER.fullmatch(request.about):
            hint = "sttctl workers and sttctl workers --history list them"
            return answer.Error.of(Code.UNKNOWN_WORKER, f"no worker {request.about}", hint)
        return await self._unknown(request.about)

    async def _living(self, worker: Worker) -> view.WhyView:
        now = asyncio.get_running_loop().time()
        pss = self._loop.sampling.pss_bytes(worker.id)
        since = time.time_ns() - int((now - worker.started) * 1e9) - SLACK_NS
        return view.WhyView(
            about=worker.id,
            kind="worker",
            worker=shape.worker_view(worker, now, pss),
            events=await self._events(worker.id, since),
        )

    async def _over(self, life: WorkerLife) -> view.WhyView:
        events = await self._events(life.worker, life.started_ns - SLACK_NS, life.ended_ns)
        return view.WhyView(
            about=life.worker,
            kind="worker",
            life=life_view(life),
            evidence=await self._of_the_last_job(life, events),
            events=events,
        )

    async def _of_the_last_job(
        self, life: WorkerLife, events: tuple[dict[str, object], ...]
    ) -> tuple[dict[str, object], ...]:
        """What was seen of a worker that was ended, or died, with a job."""
        last = next((e["job"] for e in reversed(events) if e["event"] == "job.started"), None)
        row = None if last is None else await self._ledger.job(str(last))
        if row is None:
            return ()
        found = await asyncio.to_thread(self._evidence, row)
        of_life = (life.worker, life.cause)
        return tuple(one for one in found if (one.get("worker"), one.get("reason")) == of_life)

    async def _events(
        self, worker: str, since_ns: int, until_ns: int | None = None
    ) -> tuple[dict[str, object], ...]:
        rows = await self._ledger.events(since_ns, MOST_EVENTS, worker=worker)
        end = None if until_ns is None else until_ns + SLACK_NS
        return tuple(shape.event_view(row) for row in rows if end is None or row.at_ns <= end)

    async def _job(self, row: JobRow) -> view.WhyView:
        attempts = await self._ledger.attempts(row.id)
        lives = {
            name: await self._ledger.lives(MOST_LIVES, name)
            for name in {one.worker for one in attempts if one.worker}
        }
        evidence = await asyncio.to_thread(self._evidence, row)
        timeline = await self._ledger.timeline(row.id)
        return view.WhyView(
            about=row.id,
            kind="job",
            job=shape.job_view(row, self._loop.core),
            attempts=tuple(attempt_view(a, lives.get(a.worker, [])) for a in attempts),
            evidence=evidence,
            events=tuple(timeline),
        )

    def _evidence(self, row: JobRow) -> tuple[dict[str, object], ...]:
        """From the report in failed/ once it is there, else from the spool."""
        found: list[object] = self._settling.evidence(row.id)
        if row.original is not None and row.original.startswith("failed/"):
            path = self._loop.settings.state_dir / f"{row.original}.error.json"
            found = _reported(path) or found
        return tuple(one for one in found if isinstance(one, dict))


def life_view(life: WorkerLife) -> view.LifeView:
    """A life as clients see it."""
    return view.LifeView(
        worker=life.worker,
        pid=life.pid,
        cause=life.cause,
        decider=life.decider,
        rss_bytes=life.rss_bytes,
        peak_rss_bytes=life.peak_rss_bytes,
        jobs=life.jobs,
        leak_per_job_bytes=_rounded(life.leak_per_job, 1),
        age_s=round(life.age_s, 3),
        kill_latency_s=_rounded(life.kill_latency_s, 5),
        replacement_latency_s=_rounded(life.replacement_latency_s, 5),
        started=shape.instant(life.started_ns) or "",
        ended=shape.instant(life.ended_ns) or "",
    )


def attempt_view(attempt: Attempt, lives: list[WorkerLife]) -> view.AttemptView:
    """An attempt and, of all workers of that name, the one that lived then and is over."""
    fitting = [
        life
        for life in lives
        if life.started_ns - SLACK_NS <= attempt.at_ns <= life.ended_ns + SLACK_NS
    ]
    life = min(fitting, key=lambda life: life.ended_ns, default=None)
    return view.AttemptView(
        attempt=attempt.attempt,
        worker=attempt.worker,
        code=attempt.code,
        message=attempt.message,
        at=shape.instant(attempt.at_ns) or "",
        segments=attempt.segments,
        life=None if life is None else life_view(life),
    )


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)


def _reported(path: Path) -> list[object]:
    try:
        with path.open("rb") as file:
            report = msgspec.json.decode(file.read(LARGEST_REPORT))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    evidence = report.get("evidence") if isinstance(report, dict) else None
    return evidence if isinstance(evidence, list) else []
