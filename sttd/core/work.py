"""What is worked on: jobs in hand, on workers, being published; what becomes of each attempt.

Decides by appending commands. It keeps only jobs that are not at rest in the ledger, so its
memory does not grow with their number. `now` is monotonic seconds.
"""

from __future__ import annotations

from sttd.core import commands as do
from sttd.core import events as on
from sttd.core.fitting import TOO_LARGE, too_large
from sttd.core.freshness import MOST_HELD, lacks_fresh
from sttd.core.growth import Growth
from sttd.core.health import STATE_OF, EngineHealth
from sttd.core.jobs import Job
from sttd.core.retry import (
    KIND_OF,
    Again,
    Counters,
    Ended,
    FailureKind,
    Never,
    RetryPolicy,
    decide,
)
from sttd.core.staff import Staff
from sttd.core.workers import Run, Worker, WorkerState

PROGRESS_EVERY_S = 1.0  # job.progress, per job (the contract's bound)
TRIM_TOLD = 1 << 20  # bytes given back from which worker.trimmed is worth an event


class Work:
    """The jobs in motion."""

    def __init__(
        self, policy: RetryPolicy, staff: Staff, health: EngineHealth, *, resumes: bool = True
    ) -> None:
        self.policy = policy
        self.resumes = resumes
        self.staff = staff
        self.health = health
        self.growth = Growth()  # what jobs leave behind
        self.need = Growth()  # what they take while they run
        self.hand: list[Job] = []  # claimed, not yet on a worker
        self.publishing: dict[str, str] = {}  # job id -> worker id
        self.claiming = 0  # asked of the ledger
        self._dry = False  # the ledger had no more
        self._rang = False  # while a claim was out

    def at_rest(self) -> bool:
        """No job is in motion."""
        return not (self.hand or self.publishing or self.claiming or self.staff.busy())

    # -- taking jobs ---------------------------------------------------------------------------
    def rang(self) -> None:
        """Jobs may be waiting."""
        self._dry = False
        self._rang = True

    def claimed(self, jobs: tuple[Job, ...]) -> None:
        """The ledger's answer."""
        self._dry = len(jobs) < self.claiming and not self._rang
        self.claiming = 0
        self.hand.extend(jobs)

    def dispatch(self, most: int, now: float, out: list[do.Command]) -> None:
        """Give jobs in hand to free workers, and ask for more; at most `most` at once."""
        held = 0  # beside free workers, for a fresh one: that holds up nobody else
        for job in list(self.hand):
            if (why := self._too_large(job.duration_s, job.segments)) is not None:
                self.hand.remove(job)
                out.append(self._give_up(job, None, why, 0))
                continue
            worker = self._worker_for(job) if self.staff.busy() < most else None
            if worker is None:
                held += self.staff.busy() < most and bool(self.staff.free())
                continue
            self.hand.remove(job)
            self._assign(worker, job, now, out)
        if self.claiming or self._dry:
            return
        writing = self.staff.writing()  # the next job is asked for while the last is written
        hand = len(self.hand) - (held if held < MOST_HELD else 0)
        running = self.staff.busy() - writing + hand
        room = min(
            len(self.staff.free()) + writing - hand,
            most - running,
            self.health.allowed(running, now, probing=self._probing()),
        )
        if room > 0:
            self.claiming, self._rang = room, False
            out.append(do.Claim(room, probe=self.health.outage != 0))

    def _probing(self) -> int:
        """Jobs that began, or are about to, since the engine's service is in trouble."""
        runs = [w.run for w in self.staff.workers.values() if w.run is not None]
        return len(self.hand) + sum(self._is_probe(run) for run in runs)

    def _is_probe(self, run: Run) -> bool:
        return run.outage != 0 and run.outage == self.health.outage

    def _worker_for(self, job: Job) -> Worker | None:
        """A free worker that can hold it; a job that killed one gets a fresh one."""
        free = self.staff.free()
        grows = max(g.expected(job.duration_s) for g in (self.growth, self.need))
        ceiling = self.staff.policy.rss_ceiling
        for worker in free:
            fits = not ceiling or worker.vitals.rss_bytes + grows <= ceiling
            if worker.requests == 0 or (fits and not job.crashes):
                return worker
        if free and lacks_fresh(self.staff):
            free[0].due = "predicted"  # it makes way for a fresh one
        return None

    def _assign(self, worker: Worker, job: Job, now: float, out: list[do.Command]) -> None:
        worker.move(WorkerState.BUSY)
        worker.run = Run(
            job, now, now, duration_s=job.duration_s, announced=now, outage=self.health.outage
        )
        fields = self._fields(worker, job)
        out.append(do.Assign(worker.id, job))
        out.append(do.Announce("job.started", fields))
        if job.segments:
            out.append(do.Announce("job.resumed", {**fields, "segments": job.segments}))

    @staticmethod
    def _fields(worker: Worker, job: Job) -> dict[str, object]:
        return {"job": job.id, "source": job.name, "attempt": job.attempt, "worker": worker.id}

    def release(self, out: list[do.Command]) -> None:
        """Give back what was claimed and not begun."""
        for job in self.hand:
            again = Again(delay_s=0, failures=job.failures, crashes=job.crashes, interrupted=True)
            command = self._again(job, None, again, 0, FailureKind.SHUTDOWN, "not begun")
            out.append(command)
        self.hand.clear()

    # -- news of a job -------------------------------------------------------------------------
    def run_of(self, worker: Worker | None, job: str, attempt: int, token: str) -> Run | None:
        """The run that this news is about, or None when it comes late."""
        run = worker.run if worker else None
        if run is None or (run.job.id, run.job.attempt, run.job.token) != (job, attempt, token):
            return None
        return run

    def progressed(
        self, worker: Worker, run: Run, news: on.Progressed, now: float, out: list[do.Command]
    ) -> None:
        """The recording advanced."""
        if run.began_s is None:
            # a resumed one begins where the first news says; of one that ran when the daemon was
            # killed the ledger does not know that it is one
            fresh = not (run.job.segments or news.start_s)
            if news.start_s and not run.job.segments:
                out.append(do.Announce("job.resumed", self._fields(worker, run.job)))
            run.began_s, run.began = (0.0, run.started) if fresh else (news.position_s, now)
        if news.position_s > run.position_s or news.segments > run.segments:
            run.progressed = now
        if news.segments > run.segments and self._is_probe(run):
            self._serves(now, out)  # its end may be hours away
        run.writing = run.writing or news.writing
        run.position_s = max(run.position_s, news.position_s)
        run.segments = max(run.segments, news.segments)
        known_s = news.duration_s or run.duration_s
        # a header's guess may be far too short: it is at least as long as what was read
        run.duration_s = known_s and max(known_s, run.position_s)
        if now - run.announced < PROGRESS_EVERY_S:
            return
        run.announced = now
        fields = {**self._fields(worker, run.job), **run.progress(now)}
        out.append(do.Announce("job.progress", fields))

    def done(
        self, worker: Worker, run: Run, news: on.JobDone, now: float, out: list[do.Command]
    ) -> None:
        """Every output is written: make them visible."""
        self._finish(worker, news.rss_before, news.rss_after, out)
        self.growth.add(news.duration_s, news.rss_after - worker.tidy)
        self.need.add(news.duration_s, max(run.peak, news.rss_before) - worker.tidy)
        worker.tidy = news.rss_after
        self.staff.worked(worker)
        self._serves(now, out)
        if run.cancelled:
            out.append(do.Cancelled(run.job))
            return
        self.publishing[run.job.id] = worker.id
        out.append(do.Publish(run.job, worker.id))

    def failed(
        self, worker: Worker, run: Run, news: on.JobFailed, now: float, out: list[do.Command]
    ) -> None:
        """The attempt failed and the worker lives."""
        self._finish(worker, news.rss_before, news.rss_after, out)
        if news.leaving:
            self.staff.leave(worker, "crashed", now, out)
        else:
            self.staff.worked(worker)
        if news.kind in STATE_OF:
            self.reported(news.kind, news.message, now, out, news.retry_after_s)
        if run.cancelled:
            out.append(do.Cancelled(run.job))
            return
        run.segments = max(run.segments, news.segments)
        self._settle(worker, run, news.kind, news.code, news.message, news.retry_after_s, out)

    def lost(
        self,
        worker: Worker,
        run: Run,
        reason: str,
        how: str,
        *,
        by_signal: bool,
        out: list[do.Command],
    ) -> None:
        """The worker is gone and its job with it."""
        if run.cancelled or reason == "cancelled":
            out.append(do.Cancelled(run.job))
            return
        kind = KIND_OF.get(reason) or (FailureKind.CRASHED if by_signal else FailureKind.FAILED)
        code = kind.value if kind is not FailureKind.FAILED else "crashed"
        self._settle(worker, run, kind, code, f"{worker.id} {how}", None, out)

    def reported(
        self,
        kind: FailureKind,
        message: str,
        now: float,
        out: list[do.Command],
        after: float | None = None,
    ) -> None:
        """The engine's service is in trouble."""
        if self.health.report(kind, message, self.staff.busy(), now, after):
            out.append(self._engine_changed())

    def _serves(self, now: float, out: list[do.Command]) -> None:
        """The engine's service has proved that it transcribes."""
        if self.health.succeed(now):
            out.append(self._engine_changed())

    def _engine_changed(self) -> do.Announce:
        return do.Announce(
            "engine.changed",
            {
                "state": self.health.state.value,
                "detail": self.health.detail,
            },
        )

    def _finish(self, worker: Worker, before: int, after: int, out: list[do.Command]) -> None:
        worker.requests += 1
        worker.run = None
        if worker.state is WorkerState.BUSY:
            worker.move(WorkerState.IDLE)
        if before - after >= TRIM_TOLD:
            out.append(
                do.Announce(
                    "worker.trimmed",
                    {
                        "worker": worker.id,
                        "pid": worker.pid,
                        "rss_before": before,
                        "rss_after": after,
                    },
                )
            )

    def _settle(
        self,
        worker: Worker,
        run: Run,
        kind: FailureKind,
        code: str,
        message: str,
        retry_after_s: float | None,
        out: list[do.Command],
    ) -> None:
        job = run.job
        if kind is FailureKind.RSS_CEILING:
            why = self._too_large(run.duration_s, job.segments + run.segments)
            if why is not None:
                out.append(self._give_up(job, worker.id, f"{message}; {why}", run.segments))
                return
        counters = Counters(attempt=job.attempt, failures=job.failures, crashes=job.crashes)
        ended = Ended(kind=kind, segments=run.segments, retry_after_s=retry_after_s)
        match decide(self.policy, counters, ended):
            case Again() as again:
                out.append(self._again(job, worker.id, again, run.segments, kind, message, code))
                if not again.delay_s:
                    self.rang()  # asked for along with its return: both are in one commit
            case Never(final):
                text = (
                    message if final is None else f"{job.crashes + 1} workers died of it; {message}"
                )
                out.append(
                    do.GiveUp(
                        job=job,
                        worker=worker.id,
                        code=final or code,
                        message=text,
                        attempt_code=code,
                        segments=job.segments + run.segments,
                    )
                )

    def _too_large(self, duration_s: float | None, segments: int) -> str | None:
        """Why no fresh worker can hold the job; None when one may. See `sttd.core.fitting`."""
        if segments and self.resumes:
            return None  # it goes on behind them, and so gets through in parts
        fresh, ceiling = self.staff.fresh.least(), self.staff.policy.rss_ceiling
        return too_large(self.need, duration_s, fresh=fresh, ceiling=ceiling)

    def _give_up(self, job: Job, worker: str | None, why: str, segments: int) -> do.GiveUp:
        return do.GiveUp(
            job=job,
            worker=worker,
            code=TOO_LARGE,
            message=why,
            attempt_code=TOO_LARGE,
            segments=job.segments + segments,
        )

    def forget_growth(self) -> None:
        """Another engine, or other settings of it: what was learnt does not hold."""
        self.growth, self.need = Growth(), Growth()

    def _again(
        self,
        job: Job,
        worker: str | None,
        again: Again,
        segments: int,
        kind: FailureKind,
        message: str,
        code: str | None = None,
    ) -> do.Requeue:
        return do.Requeue(
            job=job,
            worker=worker,
            delay_s=again.delay_s,
            failures=again.failures,
            crashes=again.crashes,
            segments=job.segments + segments,
            interrupted=again.interrupted,
            code=code or kind.value,
            message=message,
        )
