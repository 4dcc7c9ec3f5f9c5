"""A world for the core: it carries out commands in memory and lets tests make things happen."""

from __future__ import annotations

from collections import deque

from sttd.core import commands as do
from sttd.core import events as on
from sttd.core.jobs import Job
from sttd.core.recycling import RecyclePolicy, Vitals
from sttd.core.retry import FailureKind, RetryPolicy
from sttd.core.staff import REASONS
from sttd.core.supervision import Policies, Supervision

MIB = 1 << 20
EPS = 1e-6


def policies(**changes: object) -> Policies:
    """Small numbers, so that everything happens soon."""
    base: dict[str, object] = {
        "recycle": RecyclePolicy(max_requests=3, max_requests_jitter=0, max_age=0),
        "retry": RetryPolicy(backoff=0),
        "workers": 2,
        "standby": 1,
    }
    return Policies(**{**base, **changes})  # type: ignore[arg-type]  # test data


class World:
    """What the core believes in: processes, a queue, a template; every command is checked."""

    def __init__(self, settings: Policies | None = None, *, jitter: int = 0) -> None:
        self.settings = settings or policies()
        self.core = Supervision(self.settings, lambda most: min(jitter, most))
        self.now = 1000.0
        self.queue: deque[Job] = deque()
        self.delayed: list[tuple[float, Job]] = []
        self.claims: deque[int] = deque()
        self.template: int | None = None
        self.starting_templates: list[int] = []
        self.alive: dict[str, str] = {}  # worker -> "forking" | "starting" | "ready"
        self.dying: dict[str, str] = {}  # worker -> "leave" | "kill"
        self.jobs: dict[str, Job] = {}  # worker -> job
        self.publishing: dict[str, Job] = {}
        self.rss: dict[str, int] = {}
        self.succeeded: list[str] = []
        self.failed: dict[str, do.GiveUp] = {}
        self.cancelled: list[str] = []
        self.buried: list[do.Bury] = []
        self.told: list[do.Announce] = []
        self.commands: list[do.Command] = []
        self.exited = False
        self.submitted = 0
        self.served: dict[str, int] = {}
        self.most_alive = 0

    # -- making things happen ------------------------------------------------------------------
    def feed(self, event: on.Event) -> list[do.Command]:
        commands = self.core.handle(event, self.now)
        for command in commands:
            self._carry_out(command)
        self.commands += commands
        return commands

    def submit(self, count: int = 1, *, crashes: int = 0) -> None:
        for _ in range(count):
            self.submitted += 1
            name = f"j{self.submitted}"
            self.queue.append(
                Job(id=name, name=name, out_name=name, token="t0", attempt=0, crashes=crashes)
            )
        self.feed(on.JobsWaiting())

    def tick(self, seconds: float = 0.1) -> None:
        """Let time pass as the daemon sees it: it looks at least once a second."""
        while seconds > 1.0:
            self.now += 1.0
            seconds -= 1.0
            self.feed(on.Tick())
        self.now += seconds
        due = [job for at, job in self.delayed if at <= self.now]
        self.delayed = [(at, job) for at, job in self.delayed if at > self.now]
        self.queue.extend(due)
        if due:
            self.feed(on.JobsWaiting())
        self.feed(on.Tick())

    def answer_claim(self) -> None:
        limit = self.claims.popleft()
        taken = [self.queue.popleft() for _ in range(min(limit, len(self.queue)))]
        jobs = tuple(
            Job(
                id=j.id,
                name=j.name,
                out_name=j.out_name,
                token=f"t{j.attempt + 1}",
                attempt=j.attempt + 1,
                failures=j.failures,
                crashes=j.crashes,
                segments=j.segments,
            )
            for j in taken
        )
        self.feed(on.Claimed(jobs))

    def template_ready(self) -> None:
        self.template = self.starting_templates.pop(0)
        self.feed(on.TemplateReady(self.template))

    def forked(self, worker: str) -> None:
        self.alive[worker] = "starting"
        self.feed(on.WorkerForked(worker, 100 + len(self.served)))

    def ready(self, worker: str) -> None:
        self.alive[worker] = "ready"
        self.feed(on.WorkerReady(worker))

    def sample(self, worker: str, mib: int, threads: int = 1) -> None:
        self.rss[worker] = mib * MIB
        self.feed(on.Sampled(worker, Vitals(rss_bytes=mib * MIB, threads=threads)))

    def writes(self, worker: str) -> None:
        """Its engine is done; it has begun to write the outputs."""
        job = self.jobs[worker]
        self.feed(
            on.Progressed(
                worker=worker,
                job=job.id,
                attempt=job.attempt,
                token=job.token,
                position_s=1.0,
                segments=1,
                duration_s=1.0,
                writing=True,
            )
        )

    def done(self, worker: str, mib: int = 50) -> None:
        job = self.jobs.pop(worker)
        self.served[worker] = self.served.get(worker, 0) + 1
        self.rss[worker] = mib * MIB
        self.publishing[job.id] = job
        self.feed(on.Sampled(worker, Vitals(rss_bytes=mib * MIB)))
        self.feed(
            on.JobDone(
                worker=worker,
                job=job.id,
                attempt=job.attempt,
                token=job.token,
                duration_s=1.0,
                segments=1,
                rss_before=mib * MIB,
                rss_after=mib * MIB,
            )
        )

    def fail(self, worker: str, kind: FailureKind, segments: int = 0) -> None:
        job = self.jobs.pop(worker)
        self.served[worker] = self.served.get(worker, 0) + 1
        self.feed(
            on.JobFailed(
                worker=worker,
                job=job.id,
                attempt=job.attempt,
                token=job.token,
                kind=kind,
                code=kind.value,
                message="as told",
                retry_after_s=None,
                segments=segments,
                duration_s=None,
                rss_before=0,
                rss_after=0,
            )
        )

    def die(self, worker: str, signal: int | None = 11, code: int | None = None) -> None:
        self.alive.pop(worker)
        self.dying.pop(worker, None)
        self.rss.pop(worker, None)
        self.jobs.pop(worker, None)
        self.feed(on.WorkerExited(worker, code, signal))

    def bury(self, worker: str) -> None:
        how = self.dying[worker]
        self.die(worker, signal=9 if how == "kill" else None, code=None if how == "kill" else 0)

    def published(self, job: str) -> None:
        self.publishing.pop(job)
        self.succeeded.append(job)
        self.feed(on.Published(job))

    def settle(self, *, bury: bool = True) -> None:
        """Let everything that wants to happen happen, jobs excepted."""
        for _ in range(1000):
            if self.starting_templates:
                self.template_ready()
            elif self.claims:
                self.answer_claim()
            elif waiting := [w for w, s in self.alive.items() if s == "forking"]:
                self.forked(waiting[0])
            elif starting := [
                w for w, s in self.alive.items() if s == "starting" and w not in self.dying
            ]:
                self.ready(starting[0])
            elif bury and self.dying:
                self.bury(next(iter(self.dying)))
            elif self.publishing:
                self.published(next(iter(self.publishing)))
            else:
                return
        raise AssertionError("the world does not come to rest")

    def names(self, event: str) -> list[do.Announce]:
        return [t for t in self.told if t.event == event]

    def names_of(self, kind: type[do.Command]) -> list[do.Command]:
        """All commands of a kind so far."""
        return [c for c in self.commands if isinstance(c, kind)]

    def state(self) -> str:
        """What the core says of itself now."""
        return self.core.state

    # -- carrying out, with the rules that must hold -------------------------------------------
    def _carry_out(self, command: do.Command) -> None:  # noqa: PLR0915 (one case a command)
        match command:
            case do.StartTemplate(epoch):
                self.starting_templates.append(epoch)
            case do.Fork(worker):
                assert worker not in self.alive, "a worker is forked once"
                assert self.template is not None, "nothing is forked without a template"
                self.alive[worker] = "forking"
                self.most_alive = max(self.most_alive, len(self.alive))
            case do.Leave(worker, reason):
                assert reason in REASONS
                assert worker in self.alive
                self.dying.setdefault(worker, "leave")
            case do.Kill(worker, reason) | do.Examine(worker, reason):
                assert reason in REASONS
                assert worker in self.alive
                self.dying[worker] = "kill"
            case do.Claim(limit, _):
                assert limit > 0
                assert self.core.mode == "running", "no job starts while draining"
                assert not self.claims, "one claim at a time"
                self.claims.append(limit)
            case do.Assign(worker, job):
                assert self.core.mode == "running", "no job starts while draining"
                assert self.alive.get(worker) == "ready", "only a ready worker gets a job"
                assert worker not in self.dying, "nobody on the way out gets a job"
                assert worker not in self.jobs, "one job at a time"
                assert job.id not in {j.id for j in self.jobs.values()}, "one worker a job"
                limit = self.settings.recycle.max_requests
                assert not limit or self.served.get(worker, 0) < limit, "never past max_requests"
                if job.crashes:
                    assert not self.served.get(worker), "after a crash only a fresh worker"
                self.jobs[worker] = job
            case do.Publish(job):
                assert job.id in self.publishing
            case do.Requeue():
                again = Job(
                    id=command.job.id,
                    name=command.job.name,
                    out_name=command.job.out_name,
                    token="",
                    attempt=command.job.attempt,
                    failures=command.failures,
                    crashes=command.crashes,
                    segments=command.segments,
                )
                if command.delay_s > 0:
                    self.delayed.append((self.now + command.delay_s, again))
                else:
                    self.queue.append(again)
            case do.GiveUp(job=job):
                assert command.code
                self.failed[job.id] = command
            case do.Cancelled(job):
                self.publishing.pop(job.id, None)
                self.cancelled.append(job.id)
            case do.Announce():
                if "reason" in command.fields:
                    assert command.fields["reason"] in REASONS
                self.told.append(command)
            case do.Bury():
                self.buried.append(command)
            case do.Exit():
                assert not self.exited
                self.exited = True

    def places(self) -> list[str]:
        """Every job, once for each place it is in."""
        return [
            *(j.id for j in self.queue),
            *(j.id for _, j in self.delayed),
            *(j.id for j in self.core.work.hand),
            *(j.id for j in self.jobs.values()),
            *self.publishing,
            *self.succeeded,
            *self.failed,
            *self.cancelled,
        ]
