"""The daemon's mind: one event in, commands out. Pure: no I/O, no clock; `now` is monotonic.

Composes `staff` (who works), `work` (what is worked on), `health` (the engine's service) and
`admission` (how much at once), and knows the daemon's own modes: running, draining, stopping.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Literal, assert_never

import msgspec

from sttd.core import commands as do
from sttd.core import events as on
from sttd.core.admission import Admission, Room, admit, settled
from sttd.core.health import EngineHealth, EngineState
from sttd.core.lives import how_it_ended
from sttd.core.policies import Policies
from sttd.core.retry import FailureKind
from sttd.core.staff import Staff
from sttd.core.work import Work
from sttd.core.workers import WorkerState

# what leaves the workers as they are: asked first, because most events are of these kinds
STILL = on.Progressed | on.Published | on.PublishFailed | on.Claimed | on.RoomSampled
AWAY_S = 2.0  # ticks come four times a second: after this long without any we were stopped


class Mode(enum.StrEnum):
    """What the operator asked for."""

    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"


class Supervision:
    """State machine of the whole daemon. `jitter(n)` draws a whole number from 0 to n."""

    def __init__(self, policies: Policies, jitter: Callable[[int], int]) -> None:
        self.policies = policies
        self.mode = Mode.RUNNING
        self.staff = Staff(
            policies.recycle, workers=policies.workers, standby=policies.standby, jitter=jitter
        )
        self.health = EngineHealth(policies.max_sessions, policies.retry.backoff_max, jitter)
        self.work = Work(policies.retry, self.staff, self.health, resumes=policies.resumes)
        self.room: Room | None = None
        self.admission = Admission(jobs=policies.workers)
        self.troubles: dict[str, str] = {}
        self._stop_at: float | None = None
        self._claim_at = 0.0  # not before: the ledger had trouble
        self._said_drained = False
        self._said_degraded: tuple[str, ...] = ()
        self._exited = False
        self._looked = 0.0  # when the last event was handled

    @property
    def state(self) -> Literal["running", "draining", "drained", "degraded"]:
        """`daemon.state` of the contract."""
        if self.mode is Mode.RUNNING:
            return "degraded" if self.troubles else "running"
        return "drained" if self.work.at_rest() else "draining"

    @property
    def calm(self) -> bool:
        """Nothing is under way that a tick must see to soon."""
        sound = self.health.state is EngineState.OK and not self.troubles
        return sound and self.mode is Mode.RUNNING and self.staff.calm

    def handle(self, event: on.Event, now: float) -> list[do.Command]:
        """Take one event; say what is to be done, in order."""
        out: list[do.Command] = []
        if 0.0 < self._looked < now - AWAY_S:
            for worker in self.staff.workers.values():  # stopped, or frozen, as they may have been
                worker.forgive(now - self._looked)
        self._looked = now
        if isinstance(event, on.Sampled) and not self._sampled(event, now, out):
            return out
        self._take(event, now, out)
        if not isinstance(event, STILL):
            self.staff.balance(now, out)
        if self.mode is Mode.RUNNING and now >= self._claim_at:
            self.work.dispatch(self.admission.jobs, now, out)
            if self.staff.some_due:  # a job may have asked for a fresh worker
                self.staff.balance(now, out)
        self._say(out)
        if self.mode is Mode.STOPPING and not self._exited:
            self._exited = not self.staff.workers and self.work.at_rest()
            if self._exited:
                out.append(do.Exit())
        return out

    def _sampled(self, event: on.Sampled, now: float, out: list[do.Command]) -> bool:
        """Judge a sample; whether anything follows from it, and that is seldom."""
        worker = self.staff.workers.get(event.worker)
        if worker is None:
            return False
        due, worker.vitals = worker.due, event.vitals
        if worker.run is not None:
            worker.run.peak = max(worker.run.peak, event.vitals.rss_bytes)
        self.staff.judge(worker, now, out)
        return bool(out) or worker.due != due

    def _take(self, event: on.Event, now: float, out: list[do.Command]) -> None:
        match event:
            case on.Tick():
                self._tick(now, out)
            case on.TemplateReady() | on.TemplateExited():
                self._template(event, now)
            case (
                on.WorkerForked()
                | on.WorkerReady()
                | on.WorkerExited()
                | on.Starved()
                | on.Sampled()
            ):
                self._worker(event, now, out)
            case on.Progressed() | on.JobDone() | on.JobFailed():
                self._news(event, now, out)
            case on.EngineReported(_, kind, message):
                self.work.reported(kind, message, now, out)
            case on.JobsWaiting():
                self.work.rang()
            case on.Claimed(jobs):
                self.work.claimed(jobs)
                self.troubles.pop("ledger", None)
                if self.mode is not Mode.RUNNING:
                    self.work.release(out)
            case on.ClaimFailed(message):
                self.work.claimed(())
                self.work.rang()
                self._claim_at = now + 1.0
                self.troubles["ledger"] = message
            case on.Published(job) | on.PublishFailed(job):
                self.work.publishing.pop(job, None)
            case on.RoomSampled(available, budget, pressure):
                self.room = Room(available=available, budget=budget, pressure=pressure)
            case on.TroubleChanged(source, reason):
                self._trouble(source, reason)
            case _:
                self._operator(event, now, out)

    # -- time ----------------------------------------------------------------------------------
    def _tick(self, now: float, out: list[do.Command]) -> None:
        for worker in list(self.staff.workers.values()):
            self.staff.judge(worker, now, out)
        self.staff.grace_is_over(now, out)
        self._admit()
        self._trouble("pool", self.staff.troubled(now))
        if self._stop_at is not None and now >= self._stop_at:
            self._stop_at = None
            for worker in list(self.staff.in_state(WorkerState.BUSY)):
                self.staff.leave(worker, "shutdown", now, out)

    def _admit(self) -> None:
        workers = self.staff.target
        if not self.policies.max_per_memory:
            self.admission = Admission(jobs=workers)
            self.staff.spare = True
            return
        found = admit(
            self.room,
            workers=workers,
            ceiling=self.policies.recycle.rss_ceiling,
            grown=sum(w.vitals.rss_bytes for w in self.staff.workers.values()),
            waiting=self.staff.waiting_bytes(),
        )
        self.admission = settled(found, self.admission)
        self.staff.spare = found.spare
        self._trouble("memory", self.admission.reason or None)

    def _trouble(self, source: str, reason: str | None) -> None:
        if reason is None:
            self.troubles.pop(source, None)
        else:
            self.troubles[source] = reason

    # -- processes -----------------------------------------------------------------------------
    def _template(self, event: on.TemplateReady | on.TemplateExited, now: float) -> None:
        if isinstance(event, on.TemplateReady):
            self.staff.template_is_ready(event.epoch)
            self._trouble("template", None)
            return
        self.staff.template_is_gone(now, usable=event.usable)
        if self.staff.template_deaths > 1:
            self._trouble("template", f"the template cannot start: {event.message}")

    def _worker(
        self,
        event: on.WorkerForked | on.WorkerReady | on.WorkerExited | on.Starved | on.Sampled,
        now: float,
        out: list[do.Command],
    ) -> None:
        worker = self.staff.workers.get(event.worker)
        if worker is None:
            return
        match event:
            case on.WorkerForked(_, pid):
                worker.pid = pid
                out.append(do.Announce("worker.spawned", {"worker": worker.id, "pid": pid}))
            case on.WorkerReady():
                self.staff.ready(worker)
                took = round(now - worker.started, 4)
                fields = {"worker": worker.id, "pid": worker.pid, "ready_s": took}
                out.append(do.Announce("worker.ready", fields))
            case on.Sampled():
                pass  # judged before: see `_sampled`
            case on.Starved():
                self.staff.starved(worker, now, out)
            case on.WorkerExited(_, code, signal, message):
                run, worker.run = worker.run, None
                reason = self.staff.exited(worker, code, signal, message, now, out)
                if run is not None:
                    how = how_it_ended(self.staff.policy, reason, code, signal)
                    self.work.lost(worker, run, reason, how, by_signal=signal is not None, out=out)
            case _:
                assert_never(event)

    # -- jobs ----------------------------------------------------------------------------------
    def _news(
        self, event: on.Progressed | on.JobDone | on.JobFailed, now: float, out: list[do.Command]
    ) -> None:
        worker = self.staff.workers.get(event.worker)
        run = self.work.run_of(worker, event.job, event.attempt, event.token)
        if worker is None or run is None:
            what = type(event).__name__
            fields = {"worker": event.worker, "job": event.job, "attempt": event.attempt}
            out.append(do.Announce("worker.late", {**fields, "what": what}))
            return
        match event:
            case on.Progressed():
                self.work.progressed(worker, run, event, now, out)
                return
            case on.JobDone():
                self.work.done(worker, run, event, now, out)
            case on.JobFailed():
                self.work.failed(worker, run, event, now, out)
            case _:
                assert_never(event)
        self.staff.judge(worker, now, out)

    # -- the operator --------------------------------------------------------------------------
    def _operator(
        self,
        event: on.DrainRequested
        | on.ResumeRequested
        | on.StopRequested
        | on.RecycleRequested
        | on.ScaleRequested
        | on.CancelRequested
        | on.Reconfigured,
        now: float,
        out: list[do.Command],
    ) -> None:
        match event:
            case on.DrainRequested():
                self._drain(out)
            case on.ResumeRequested():
                self._resume(now, out)
            case on.StopRequested(at_once):
                self._stop(now, out, at_once=at_once)
            case on.RecycleRequested(worker):
                for one in self.staff.workers.values():
                    if worker in (None, one.id):
                        one.due = one.due or "requested"
            case on.ScaleRequested(workers):
                self.staff.target = workers
                self._admit()
            case on.CancelRequested(job):
                self._cancel(job, now, out)
            case on.Reconfigured():
                self._reconfigure(event, now)
            case _:
                assert_never(event)

    def _drain(self, out: list[do.Command]) -> None:
        if self.mode is Mode.RUNNING:
            self.mode = Mode.DRAINING
            self.work.release(out)
            out.append(do.Announce("daemon.draining", {}))

    def _resume(self, now: float, out: list[do.Command]) -> None:
        self.health.probe_soon(now)
        self.work.rang()
        if self.mode is Mode.DRAINING:
            self.mode = Mode.RUNNING
            self._said_drained = False
            out.append(do.Announce("daemon.resumed", {}))

    def _stop(self, now: float, out: list[do.Command], *, at_once: bool) -> None:
        self._drain(out)
        self.mode = Mode.STOPPING
        self.staff.closing = True
        if at_once:
            for worker in list(self.staff.in_state(*WorkerState)):
                self.staff.kill(worker, "shutdown", now, out)
        elif self._stop_at is None:
            self._stop_at = now + self.policies.recycle.drain_timeout

    def _cancel(self, job: str, now: float, out: list[do.Command]) -> None:
        for worker in list(self.staff.workers.values()):
            if worker.run is not None and worker.run.job.id == job:
                worker.run.cancelled = True
                self.staff.leave(worker, "cancelled", now, out)
        for held in [j for j in self.work.hand if j.id == job]:
            self.work.hand.remove(held)
            out.append(do.Cancelled(held))

    def _reconfigure(self, event: on.Reconfigured, now: float) -> None:
        self.policies = msgspec.structs.replace(
            self.policies, recycle=event.recycle, retry=event.retry
        )
        self.staff.policy, self.work.policy = event.recycle, event.retry
        self.staff.standby, self.work.resumes = event.standby, event.resumes
        if event.workers is not None:
            self.staff.target = event.workers
        self.health.backoff_max = event.retry.backoff_max
        self.health.most = event.max_sessions
        self.health.probe_soon(now)
        self.work.rang()
        if event.engine_changed:
            self.staff.renew_template(now)
            self.work.forget_growth()

    # -- telling -------------------------------------------------------------------------------
    def _say(self, out: list[do.Command]) -> None:
        reasons = tuple(sorted(self.troubles.values()))
        if reasons != self._said_degraded:
            if reasons:
                out.append(do.Announce("daemon.degraded", {"reasons": list(reasons)}))
            else:
                out.append(do.Announce("daemon.recovered", {"reasons": list(self._said_degraded)}))
            self._said_degraded = reasons
        # who stops drains first; once its time is up, jobs are given back and nothing was drained
        drains = self.mode is Mode.DRAINING or self._stop_at is not None
        if drains and not self._said_drained and self.work.at_rest():
            self._said_drained = True
            out.append(do.Announce("daemon.drained", {}))


__all__ = ["FailureKind", "Mode", "Policies", "Supervision"]
