"""Who works: workers come, stand by, are promoted, told to leave, killed, replaced.

Decides by appending commands. It knows that a worker has a job and nothing about which; what
becomes of jobs is `work`'s business. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from sttd.core import commands as do
from sttd.core.balance import Balance
from sttd.core.freshness import may_work
from sttd.core.growth import Fresh
from sttd.core.lives import Vacancies, life_of
from sttd.core.recycling import Keep, Kill, Life, RecyclePolicy, Retire, judge, most_requests
from sttd.core.throttle import BAR_MOST_S, DEGRADED_AFTER, Deaths, Slot
from sttd.core.workers import WISHED, Worker, WorkerState

REASONS = (
    "max_requests",
    "rss_soft",
    "rss_ceiling",
    "predicted",
    "max_age",
    "stalled",
    "job_timeout",
    "crashed",
    "threads",
    "fds",
    "requested",
    "cancelled",
    "reloaded",
    "scaled",
    "shutdown",
)
# A fresh worker that must leave for one of these would be followed by its like for ever.
HOPELESS_WHEN_FRESH = frozenset({"rss_soft", "rss_ceiling", "threads", "fds", "max_age"})
HANGING = frozenset({"stalled", "job_timeout"})
FRESH_S = 60.0
START_WITHIN_S = 300.0  # a worker that takes longer to say its first word hangs
OPEN = frozenset({WorkerState.IDLE, WorkerState.BUSY})
SETTLED = frozenset({WorkerState.IDLE, WorkerState.STANDBY, WorkerState.BUSY})


class Staff:
    """The workers, their slots and their template. `out` collects commands for the shell."""

    def __init__(
        self,
        policy: RecyclePolicy,
        *,
        workers: int,
        standby: int,
        jitter: Callable[[int], int],
    ) -> None:
        self.policy = policy
        self.target = workers
        self.standby = standby
        self.fresh = Fresh()
        self.stuck = False  # nothing can be forked now, for workers die or there is no template
        self.spare = True  # the memory budget bears processes beyond `target`
        self.workers: dict[str, Worker] = {}
        self.slots: list[Slot] = []
        self.recycles: Counter[str] = Counter()
        self.epoch = 0  # of the template last started
        self.serving = 0  # of the template that forks
        self.template_ready = False
        self.template_deaths = 0
        self.template_at: float | None = 0.0  # when to start one; None: it is there or coming
        self.closing = False
        self._balance = Balance(self)
        self._vacancies = Vacancies()
        self._deaths = Deaths()
        self._renewing = False
        self._generation = 0
        self._jitter = jitter

    # -- looking -------------------------------------------------------------------------------
    def in_state(self, *states: WorkerState) -> Iterator[Worker]:
        """Workers in any of these states, eldest first."""
        return (w for w in self.workers.values() if w.state in states)

    def free(self) -> list[Worker]:
        """Workers that may be given a job now, the most used first (so that dues stagger).

        One that an operator wants replaced works on while no replacement can come to be: a new
        configuration with which workers die must not stop those that live. One that is to make way
        for a single job's sake works on until the fresh one is there.
        """
        idle = [w for w in self.in_state(WorkerState.IDLE) if w.due is None or may_work(self, w)]
        return sorted(idle, key=lambda w: -w.requests)

    def busy(self) -> int:
        """How many hold a job, those on their way out included."""
        return sum(w.run is not None for w in self.workers.values())

    def writing(self) -> int:
        """How many of those are done but for writing the outputs, and will take another job."""
        return sum(
            w.run is not None and w.run.writing and w.due is None and w.state is WorkerState.BUSY
            for w in self.workers.values()
        )

    @property
    def calm(self) -> bool:
        """The pool is what it should be, and nobody in it is on the way in or out."""
        there = self.target + (self.standby if self.spare else 0)
        return (
            self.template_ready
            and self.template_at is None
            and len(self.workers) == there
            and all(w.state in SETTLED and w.due is None for w in self.workers.values())
        )

    @property
    def some_due(self) -> bool:
        """Somebody is to be replaced."""
        return any(worker.due for worker in self.workers.values())

    def troubled(self, now: float) -> str | None:
        """Why the pool calls itself degraded, or None."""
        there = sum(1 for _ in self.in_state(*SETTLED))
        whole = there >= self.target + (self.standby if self.spare else 0)
        deaths = self._deaths.row(now, whole=whole)
        if not whole:  # those in slots that are empty for that reason, whatever others achieve
            starting = {worker.id for worker in self.in_state(WorkerState.STARTING)}
            deaths = max(deaths, sum(s.deaths for s in self.slots if s.spins(now, starting)))
        if deaths < DEGRADED_AFTER:
            return None
        return f"{deaths} workers died one after another; see worker.exited"

    def waiting_bytes(self) -> int:
        """What those that stand by take; a whole ceiling each while no worker was ever seen."""
        return (self.fresh.most or self.policy.rss_ceiling) * max(1, self.standby)

    # -- the template --------------------------------------------------------------------------
    def template_is_ready(self, epoch: int) -> None:
        """From now on this template forks; after a renewal, workers of older ones are replaced."""
        self.serving = epoch
        self.template_ready = True
        self.template_deaths = 0
        if self._renewing and epoch == self.epoch:
            self._renewing = False
            self._deaths.worked()
            for slot in self.slots:
                slot.worked()  # what died was of another configuration: this one may do better
            for worker in self.workers.values():
                worker.due = worker.due or "reloaded"

    def template_is_gone(self, now: float, *, usable: bool) -> None:
        """Start another: at once the first time, then ever later."""
        delay = min(BAR_MOST_S, 0.5 * 2.0**self.template_deaths) if self.template_deaths else 0.0
        self.template_deaths += 1
        self.template_ready = usable
        self.template_at = now + delay

    def renew_template(self, now: float) -> None:
        """The engine's configuration changed; the old template serves until the new is ready."""
        self.template_at = now
        self._renewing = True

    # -- a worker's life -----------------------------------------------------------------------
    def fork(self, slot: Slot, now: float, out: list[do.Command]) -> None:
        """Bring a worker into being in a free slot."""
        self._generation += 1
        extra = self._jitter(self.policy.max_requests_jitter)
        worker = Worker(
            id=f"w-{self._generation}",
            generation=self._generation,
            slot=slot.index,
            template=self.serving,
            extra=extra,
            started=now,
        )
        self.workers[worker.id] = worker
        slot.worker = worker.id
        out.append(do.Fork(worker.id, worker.generation))

    def ready(self, worker: Worker) -> None:
        """It said its first word: from now on it can replace another at once."""
        if worker.state is WorkerState.STARTING:
            worker.move(WorkerState.STANDBY)
            worker.base = worker.tidy = worker.vitals.rss_bytes
            self.fresh.add(worker.base)

    def leave(
        self,
        worker: Worker,
        reason: str,
        now: float,
        out: list[do.Command],
        *,
        unreplaced: bool = False,
    ) -> None:
        """Tell the worker to go; it is killed when its grace is over.

        `unreplaced`: nobody stands by, for the budget bears none (break before make).
        """
        if worker.ending is not None:
            return
        worker.ending = reason
        worker.unreplaced = unreplaced
        worker.kill_at = now + self.policy.grace
        worker.decided = now
        self._vacate(worker, reason, now)
        worker.move(WorkerState.RETIRING)
        out.append(self._announce("worker.retiring", worker, reason, now))
        out.append(do.Leave(worker.id, reason))

    def kill(self, worker: Worker, reason: str, now: float, out: list[do.Command]) -> None:
        """End the worker now; the first reason given stays the reason."""
        if worker.killed:
            return
        worker.killed = True
        worker.ending = worker.ending or reason
        if worker.state is not WorkerState.RETIRING:
            self._vacate(worker, reason, now)
            worker.move(WorkerState.RETIRING)
        worker.decided = worker.decided or now
        out.append(self._announce("worker.killed", worker, worker.ending, now))
        order = do.Examine if worker.ending in HANGING else do.Kill
        out.append(order(worker.id, worker.ending))

    def starved(self, worker: Worker, now: float, out: list[do.Command]) -> None:
        """The kernel was faster than any sample: it has killed the worker behind the ceiling."""
        if worker.killed:
            return
        worker.killed = worker.starved = True
        worker.ending = worker.ending or "rss_ceiling"
        if worker.state is not WorkerState.RETIRING:
            self._vacate(worker, "rss_ceiling", now)
            worker.move(WorkerState.RETIRING)
        worker.decided = worker.decided or now
        out.append(self._announce("worker.killed", worker, worker.ending, now))

    def _vacate(self, worker: Worker, reason: str, now: float) -> None:
        if worker.state in OPEN and reason not in ("scaled", "shutdown"):
            self._vacancies.open(worker.id, now)

    def exited(
        self,
        worker: Worker,
        exit_code: int | None,
        signal: int | None,
        message: str,
        now: float,
        out: list[do.Command],
    ) -> str:
        """The process is gone: count it, free its slot. Returns the reason its life ended."""
        del self.workers[worker.id]
        slot = self.slots[worker.slot]
        slot.worker = None
        reason = worker.ending or "crashed"
        self.recycles[reason] += 1
        never_ready = worker.state is WorkerState.STARTING
        fresh = (
            worker.requests == 0
            and reason in HOPELESS_WHEN_FRESH
            and now - worker.started < FRESH_S  # one that stood by for hours is no sign of a spin
        )
        if reason == "crashed" or fresh:
            self._deaths.died(now)
            slot.died(now, before_ready=never_ready or fresh)
        ended = self._announce("worker.exited", worker, reason, now)
        how: dict[str, object] = {"exit_code": exit_code} if signal is None else {"signal": signal}
        if message:
            how["message"] = message
        out.append(do.Announce(ended.event, {**ended.fields, **how}))
        if reason != "crashed" and not worker.killed and reason != "shutdown":
            out.append(self._announce("worker.recycled", worker, reason, now))
        life = life_of(worker, reason, signal, now)
        if reason == "crashed" and worker.state in OPEN:
            self._vacancies.open(worker.id, now)
        out.extend(self._vacancies.end(life))
        return reason

    def worked(self, worker: Worker) -> None:
        """It ended a job alive: the pool works, and so does its slot."""
        self._deaths.worked()
        self.slots[worker.slot].worked()

    def judge(self, worker: Worker, now: float, out: list[do.Command]) -> None:
        """Apply the recycling policy to one worker."""
        if worker.killed:
            return
        if worker.state is WorkerState.STARTING:
            if 0 < self.policy.rss_ceiling < worker.vitals.rss_bytes:
                self.kill(worker, "rss_ceiling", now, out)
            elif now - worker.started > START_WITHIN_S:
                self.kill(worker, "stalled", now, out)
            return
        run = worker.run
        life = Life(
            requests=worker.requests,
            max_requests=most_requests(self.policy, worker.extra),
            age_s=now - worker.started,
            busy=run is not None,
            quiet_s=now - run.progressed if run else 0.0,
            run_s=now - run.started if run else 0.0,
            duration_s=run.duration_s if run else None,
        )
        match judge(self.policy, worker.vitals, life):
            case Kill(reason):
                self.kill(worker, reason, now, out)
            case Retire(reason):
                if worker.due is None or (self.stuck and worker.due in WISHED):
                    worker.due = reason  # now something is wrong with it: it works no more
            case Keep():
                pass

    def grace_is_over(self, now: float, out: list[do.Command]) -> None:
        """Kill those who were told to leave and did not."""
        for worker in list(self.workers.values()):
            if worker.kill_at is not None and now >= worker.kill_at and worker.ending:
                self.kill(worker, worker.ending, now, out)

    # -- the balance ---------------------------------------------------------------------------
    def balance(self, now: float, out: list[do.Command]) -> None:
        """Make the pool what it should be; called after every event."""
        if self.closing:
            for worker in list(
                self.in_state(WorkerState.STARTING, WorkerState.STANDBY, WorkerState.IDLE)
            ):
                self.leave(worker, "shutdown", now, out)
            return
        if self.template_at is not None and now >= self.template_at:
            self.epoch += 1
            self.template_at = None
            out.append(do.StartTemplate(self.epoch, self._renewing))
        self._balance.strike(now, out)
        active = sum(w.due != "scaled" for w in self.in_state(*OPEN))
        out.extend(self._vacancies.fill(max(0, self.target - active), now))

    def _announce(self, event: str, worker: Worker, reason: str, now: float) -> do.Announce:
        fields: dict[str, object] = {
            "worker": worker.id,
            "pid": worker.pid,
            "reason": reason,
            "requests": worker.requests,
            "rss_bytes": worker.vitals.rss_bytes,
            "age_s": round(now - worker.started, 3),
        }
        if worker.unreplaced:
            fields["break_before_make"] = True
        return do.Announce(event, fields)
