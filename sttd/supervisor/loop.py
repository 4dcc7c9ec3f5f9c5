"""The shell around the core: the world becomes events, commands become deeds. Almost no `if`.

The only module that sees both `core.supervision` and the adapters. It decides nothing; where it
branches, it is on what kind of thing happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from sttd.config import Settings, allocators
from sttd.core import commands as do
from sttd.core import events as on
from sttd.core.jobs import Job
from sttd.core.recycling import Vitals
from sttd.core.retry import FailureKind
from sttd.core.supervision import Policies, Supervision
from sttd.engines.helpers import HELPERS
from sttd.log import Log
from sttd.supervisor import orders, translate
from sttd.supervisor.beat import next_beat
from sttd.supervisor.cgroups import settle_in
from sttd.supervisor.chatter import Chatter
from sttd.supervisor.deeds import Deeds
from sttd.supervisor.helper import HelperProcess
from sttd.supervisor.history import History
from sttd.supervisor.inspections import Inspections
from sttd.supervisor.ledger import Ledger, LedgerError
from sttd.supervisor.machine import memory_room
from sttd.supervisor.pool import Pool
from sttd.supervisor.sampling import Sampling
from sttd.supervisor.settling import Settling
from sttd.supervisor.spool import Spool
from sttd.supervisor.witness import Witness
from sttd.wire import messages as say

TICK_S = 0.25
CALM_TICK_S = 1.0  # while nobody comes or goes
ROOM_EVERY_S = 1.0
PROGRESS_EVERY_S = 10.0  # into the ledger; whoever asks of a running job is told the latest
WAKE_EVERY_S = 10.0  # at the latest: deferred jobs go by CLOCK_BOOTTIME, which leaps in a suspend
LAST_DEEDS_S = 10.0  # for deeds that a full disk holds up, when all else is over


class Loop:
    """Runs the daemon's mind. `on_fatal(why)` is called when the daemon cannot go on."""

    def __init__(
        self,
        settings: Settings,
        policies: Policies,
        *,
        ledger: Ledger,
        spool: Spool,
        settling: Settling,
        log: Log,
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self.settings = settings
        self.core = Supervision(policies, lambda most: random.randint(0, most))  # noqa: S311
        self.engine = ("", "")  # name and version, once a template told them
        self.broken = asyncio.Event()  # the first template could not load the engine
        self.broken_why = ""
        self.finished = asyncio.Event()
        self.on_bury: Callable[[do.Bury], None] = lambda _life: None
        self._abandoned = False
        self.log = log
        self._chatter = Chatter(log)
        self._ledger = ledger
        self._spool = spool
        settling.more_coming = lambda: self.core.staff.busy() > 0
        self._deeds = Deeds(ledger, settling, log, self.feed, self._wake_in)
        self._on_fatal = on_fatal
        self._now = asyncio.get_running_loop().time
        self._events: deque[on.Event] = deque()
        self._feeding = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: dict[str, say.Done] = {}
        self._positions: dict[str, tuple[str, float]] = {}
        self._wake_at = self._room_at = self._told_at = 0.0
        self._helper: HelperProcess | None = None
        self.cgroups = settle_in(
            settings.pool.cgroups,
            lambda: self.settings.recycle,
            lambda line: self.log.event("cgroup.trouble", message=line),
        )
        self.pool = Pool(self._engine_order, self, self.cgroups)
        self.sampling = Sampling(self._sampled, self._is_busy, policies.recycle)
        self.cgroups.on_soft = self.sampling.look
        self._witness = Witness(self.core, self.pool, self.sampling, spool)
        self.history = History()
        self.inspections = Inspections(self.pool.send)

    # -- events in, commands out -----------------------------------------------------------------
    def feed(self, event: on.Event) -> None:
        """Let the core handle one event and carry out what it says, in order."""
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                for command in self.core.handle(self._events.popleft(), self._now()):
                    self._do(command)
        finally:
            self._feeding = False

    async def run(self) -> None:
        """Tick until the core says that everything is settled and every deed is done."""
        over = asyncio.create_task(self.finished.wait())
        while not self.finished.is_set():
            self._tick()
            await asyncio.wait((over,), timeout=self._patience())
        await self._last_deeds()
        self.sampling.close()
        await self.pool.close()
        if self._helper is not None:
            await self._helper.close()

    def _patience(self) -> float:
        """Seconds until the next tick, which is on the beat."""
        now = self._now()
        soon, late = next_beat(now, TICK_S), next_beat(now, CALM_TICK_S)
        if not self.core.calm:
            return soon - now
        return min(late, max(soon, next_beat(self._wake_at, TICK_S))) - now

    def abandon(self) -> None:
        """Stop now and wait for no deed: the daemon has failed, and its next life recovers."""
        self._abandoned = True
        self.feed(on.StopRequested(now=True))
        self.finished.set()

    async def _last_deeds(self) -> None:
        """Let what was begun come to its end, unless it cannot; the next life finishes it."""
        if self._tasks and not self._abandoned:
            await asyncio.wait(self._tasks, timeout=LAST_DEEDS_S)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _tick(self) -> None:
        now = self._now()
        if now >= self._room_at:
            self._room_at = now + ROOM_EVERY_S
            with contextlib.suppress(OSError):  # out of descriptors: what was known last holds
                self.feed(memory_room(self.settings.pool.memory_budget))
            self.pool.strays.sweep()
        if now >= self._told_at and self._positions:
            self._told_at = now + PROGRESS_EVERY_S
            told, self._positions = self._positions, {}
            self._later(self._ledger.progress([(j, t, p) for j, (t, p) in told.items()]))
        if now >= self._wake_at:
            self._wake_at = now + WAKE_EVERY_S
            self._later(self._deeds.wake())
        self.feed(on.Tick())

    def _wake_in(self, seconds: float) -> None:
        self._wake_at = min(self._wake_at, self._now() + seconds)

    # -- deeds -----------------------------------------------------------------------------------
    def _do(self, command: do.Command) -> None:
        match command:
            case do.Announce(name, fields):
                self.log.event(name, **fields)
            case do.StartTemplate(epoch, renew):
                self.log.event("template.started", epoch=epoch)
                self._later(self._start_templates(epoch, renew=renew))
            case do.Fork(worker, generation):
                self.pool.fork(worker, generation)
            case do.Leave(worker):
                self.pool.terminate(worker)
            case do.Kill(worker, reason):
                self._witness.testify(worker, reason)
                self.pool.kill(worker)
            case do.Examine(worker, reason):
                self._later(self._witness.examine(worker, reason))
            case do.Bury():
                self.on_bury(command)
                self._later(self._ledger.record_life(translate.life(command)))
            case do.Claim(limit, probe):
                self._later(self._claim(limit, probe=probe))
            case do.Assign(worker, job):
                self._assign(worker, job)
            case do.Publish(job, worker):
                self._later(self._deeds.publish(job, worker, self._results.pop(job.id)))
            case do.Requeue():
                self._later(self._deeds.requeue(command))
            case do.GiveUp():
                self._later(self._deeds.give_up(command))
            case do.Cancelled(job):
                self._later(self._deeds.cancel(job))
            case do.Exit():
                self.finished.set()

    def _later(self, deed: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(deed)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._on_fatal(error)

    async def _start_templates(self, epoch: int, *, renew: bool) -> None:
        """First the helper that holds the engine's secrets, then the templates."""
        name = self.settings.engine.name
        if name in HELPERS and self._helper is None:
            self._helper = HelperProcess(HELPERS[name], self.output)
        if self._helper is not None:
            await self._helper.renew(self.settings.engine.options_for(name))
        self.pool.start_templates(epoch, renew=renew)

    def put_away(self, jobs: Sequence[str]) -> None:
        """The originals of these jobs lie in the spool still; call inside the running loop."""
        self._later(self._deeds.put_away(jobs))

    async def _claim(self, limit: int, *, probe: bool) -> None:
        try:
            jobs = await self._ledger.claim(limit, probe=probe)
        except LedgerError as error:
            self.feed(on.ClaimFailed(str(error)))
        else:
            self.feed(on.Claimed(tuple(jobs)))

    def _assign(self, worker: str, job: Job) -> None:
        generation = self.core.staff.workers[worker].generation
        order = orders.run(self.settings, job, generation, self._spool.folder(job.id))
        self.pool.send(worker, order)
        self._later(self._ledger.assigned(job.id, job.token, worker))

    # -- the pool reports ------------------------------------------------------------------------
    def template_ready(self, epoch: int, news: say.TemplateReady) -> None:
        """The engine is loaded."""
        self.engine = (news.engine, news.version)
        self.log.event(
            "template.ready",
            epoch=epoch,
            pid=news.pid,
            engine=news.engine,
            version=news.version,
            start=news.start,
            rss_bytes=news.rss_bytes,
        )
        self.feed(on.TemplateReady(epoch))

    def template_exited(self, epoch: int, message: str, *, broken: bool, usable: bool) -> None:
        """A template is gone; before the first was ever ready, this tells the one who waits."""
        name = "template.broken" if broken else "template.exited"
        self.log.event(name, epoch=epoch, message=message)
        if broken and not self.engine[0]:
            self.broken_why = message
            self.broken.set()
        self.feed(on.TemplateExited(epoch, message, usable))

    def worker_forked(self, worker: str, pid: int) -> None:
        """From now on it is watched."""
        self.feed(on.WorkerForked(worker, pid))
        self.sampling.add(worker, pid)

    def worker_said(self, worker: str, news: say.FromWorker) -> None:
        """A message from a worker becomes an event."""
        match news:
            case say.Ready():
                self.feed(on.WorkerReady(worker))
            case say.Progress():
                self._positions[news.job] = (news.token, news.position_s)
                self.feed(translate.progressed(worker, news))
            case say.Done():
                self._results[news.job] = news
                self.sampling.look(worker)
                self.feed(translate.done(worker, news))
                if news.job not in self.core.work.publishing:
                    self._results.pop(news.job, None)
            case say.Failed():
                self.sampling.look(worker)
                self.feed(translate.failed(worker, news))
            case say.Inspected():
                self.inspections.heard(news)
            case say.EngineReport():
                self.feed(on.EngineReported(worker, FailureKind(news.kind), news.message))

    def worker_starved(self, worker: str) -> None:
        """The kernel has killed it at the wall behind the ceiling."""
        self._witness.testify(worker, "rss_ceiling")
        self.feed(on.Starved(worker))

    def worker_exited(
        self, worker: str, code: int | None, number: int | None, message: str
    ) -> None:
        """It is gone and reaped."""
        known = self.core.staff.workers.get(worker)
        if known is not None and known.ending is None:
            self._witness.testify(worker, "crashed")
        self.sampling.remove(worker)
        self.inspections.gone(worker)
        if known is not None:
            why = known.ending or "crashed"
            self.history.end(worker, why, killed=known.killed, now=self._now())
        self.feed(on.WorkerExited(worker, code, number, message))

    def output(self, line: str, worker: str | None = None) -> None:
        """What an engine prints is told as an event, so that the log stays one JSON a line."""
        self._chatter.printed(line, self.core.staff.workers.get(worker or ""))

    def _sampled(self, worker: str, vitals: Vitals) -> None:
        """Judge a sample."""
        self.history.add(worker, self._now(), vitals.rss_bytes)
        self.feed(on.Sampled(worker, vitals))

    def reconfigure(self, settings: Settings, new: Policies, *, engine_changed: bool) -> None:
        """New settings are in force; an operator's `scale` holds unless the pool's changed."""
        rescaled = settings.pool.workers != self.settings.pool.workers
        self.settings = settings
        self.sampling.policy = new.recycle
        self.feed(
            on.Reconfigured(
                recycle=new.recycle,
                retry=new.retry,
                workers=new.workers if rescaled else None,
                standby=new.standby,
                engine_changed=engine_changed,
                resumes=new.resumes,
                max_sessions=new.max_sessions,
            )
        )

    def _is_busy(self, worker: str) -> bool:
        known = self.core.staff.workers.get(worker)
        return known is not None and known.run is not None

    def _engine_order(self) -> tuple[say.Load, Mapping[str, str]]:
        order = orders.load_engine(self.settings)
        environment = allocators.environment(os.environ, self.settings.pool, self.log.event)
        if self._helper is None or order.engine not in HELPERS:
            return order, environment
        return order, self._helper.helper.environment(environment, self._helper.socket)
