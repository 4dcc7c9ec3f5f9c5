"""The daemon's side of the control socket for tests of the clients: a real Control, a real loop.

`Daemon` keeps jobs in memory, as the ledger does on disk; a job ends when the test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from sttd.supervisor.access import Access, Peer
from sttd.supervisor.control import Answer, Control
from sttd.supervisor.downloads import read_output
from sttd.supervisor.uploads import Uploads
from sttd.transcripts import Segment
from sttd.wire import replies, requests, views
from sttd.wire.codes import Code
from sttd.wire.replies import Error, Reply
from sttd.wire.requests import Request

CREATED = "2026-01-31T12:00:00.000Z"
POLL_S = 0.01


class Daemon:
    """What a daemon knows; `start` and `stop` may follow one another, as restarts do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = f"ipc://{folder}/control.sock"
        self.events_endpoint = f"ipc://{folder}/events.sock"
        self.outbox = folder / "outbox"
        self.jobs: dict[str, views.JobView] = {}
        self.recordings: dict[str, bytes] = {}
        self.options: dict[str, dict[str, object]] = {}
        self.keys: dict[str, str] = {}
        self.state: views.DaemonState = "running"
        self.history: list[views.EventView] = []
        self.said: dict[str, list[Segment]] = {}  # by job
        self.allow_path: Callable[[str], bool] = lambda _path: False
        self.seen: list[Request] = []
        self.peers: list[Peer] = []
        self.broken: list[BaseException] = []
        self.max_bytes = 8 << 20
        self.scaled = 2
        self.hold = threading.Event()  # set: answers only `version` until it is cleared
        self.mute = threading.Event()  # set: submissions are accepted, but not answered
        self.control: Control
        self.uploads: Uploads
        self._serial = itertools.count(1)
        self._thread: threading.Thread | None = None

    # -- life ----------------------------------------------------------------------------------
    def start(self, **settings: Any) -> None:
        """Answer from now on, in a thread of its own."""
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(started, settings)), name="daemon"
        )
        self._thread.start()
        try:
            started.result(30)
        except BaseException:
            self._thread.join(30)
            raise

    async def _live(self, started: Future[None], settings: dict[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.uploads = Uploads(
            self._new_upload, max_bytes=self.max_bytes, admit=self._admit, accept=self._accept
        )
        self.control = Control(
            settings.pop("endpoint", self.endpoint),
            settings.pop("events_endpoint", self.events_endpoint),
            handler=self._handle,
            uploads=self.uploads,
            access=settings.pop("access", Access(os.getuid())),
            on_error=lambda _verb, error: self.broken.append(error),
            **settings,
        )
        try:
            self.control.start()
        except BaseException as error:  # noqa: BLE001 - whoever starts must hear of it
            started.set_exception(error)
            return
        started.set_result(None)
        await self._stopping.wait()
        await self.control.close()
        self.uploads.close()

    def stop(self) -> None:
        """Answer no more."""
        if self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(30)
            assert not self._thread.is_alive(), "the daemon's loop does not end"

    def restart(self) -> None:
        """Stop and start; what was accepted is still there, uploads are not."""
        self.stop()
        self.start()

    def do(self, work: Callable[[], Any]) -> Any:
        """Run something in the daemon's loop and give back what it returns."""
        result: Future[Any] = Future()

        def run() -> None:
            try:
                result.set_result(work())
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                result.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return result.result(30)

    def publish(self, event: str, **fields: object) -> views.EventView:
        """Announce an event."""
        record = {"timestamp": CREATED, "level": "info", "event": event, **fields}
        self.history.append(record)
        self.do(lambda: self.control.publish(event, record))
        return record

    # -- jobs ----------------------------------------------------------------------------------
    def add(self, name: str = "meeting.wav", **fields: Any) -> str:
        """A queued job."""
        job = f"0190a5c6-0000-7000-8000-{next(self._serial):012d}"
        source = views.JobSource(kind="control", name=name)
        fields = {"state": "queued", "priority": 0, "attempts": 0, "created": CREATED, **fields}
        self.jobs[job] = views.JobView(job=job, source=source, **fields)
        return job

    def finish(self, job: str, **outputs: bytes) -> None:
        """Let a job succeed with these outputs, by suffix."""
        stem = self.jobs[job].source.name.rpartition(".")[0]
        names = []
        for suffix, data in outputs.items():
            names.append(f"{stem}.{suffix}")
            (self.outbox / names[-1]).parent.mkdir(parents=True, exist_ok=True)
            (self.outbox / names[-1]).write_bytes(data)
        self.change(
            job,
            state="succeeded",
            attempts=1,
            outputs=tuple(names),
            started=CREATED,
            finished=CREATED,
            duration_s=61.4,
            progress_s=61.4,
        )

    def fail(self, job: str, code: str = "undecodable", message: str = "no audio in it") -> None:
        """Let a job fail."""
        error = views.JobError(code=code, message=message)
        self.change(job, state="failed", attempts=1, error=error, finished=CREATED)

    def change(self, job: str, **fields: Any) -> None:
        """Give a job other fields."""
        self.jobs[job] = msgspec.structs.replace(self.jobs[job], **fields)

    def _new_upload(self) -> Path:
        folder = self.folder / "uploads"
        folder.mkdir(exist_ok=True)
        return folder / os.urandom(8).hex()

    async def _admit(self, request: requests.SubmitOpen, _peer: Peer) -> Reply | None:
        return self._known(request.key)

    def _known(self, key: str | None) -> Reply | None:
        if key is None or key not in self.keys:
            return None
        job = msgspec.structs.asdict(self.jobs[self.keys[key]])
        return replies.Submitted(views.SubmittedView(**job, duplicate=True))

    async def _accept(self, path: Path, request: requests.SubmitOpen, _peer: Peer) -> Reply:
        data = await asyncio.to_thread(path.read_bytes)
        reply = self._submitted(request, request.name, data)
        await self._until(lambda: not self.mute.is_set(), 30.0)
        return reply

    def _submitted(self, request: requests.Submission, name: str, data: bytes) -> Reply:
        job = self.add(name, priority=request.priority or 0)
        self.recordings[job] = data
        self.options[job] = request.options
        if request.key is not None:
            self.keys[request.key] = job
        fields = msgspec.structs.asdict(self.jobs[job])
        return replies.Submitted(views.SubmittedView(**fields, duplicate=False))

    # -- requests ------------------------------------------------------------------------------
    async def _handle(self, request: Request, peer: Peer) -> Answer:
        self.seen.append(request)
        self.peers.append(peer)
        if not isinstance(request, requests.Version):
            await self._until(lambda: not self.hold.is_set(), 30.0)
        verb = requests.verb(request)
        answer = getattr(self, f"_{verb}")(request)
        return await answer if asyncio.iscoroutine(answer) else answer  # type: ignore[no-any-return]

    def _status(self, _request: requests.Status) -> Reply:
        states = [job.state for job in self.jobs.values()]
        names = ("queued", "deferred", "running", "succeeded", "failed", "cancelled")
        counts = {name: states.count(name) for name in names}  # type: ignore[arg-type] # a subset
        return replies.Status(
            views.StatusView(
                daemon=views.DaemonView(
                    pid=os.getpid(),
                    version="1.2",
                    state=self.state,
                    uptime_s=3661.0,
                    rss_bytes=40 << 20,
                ),
                pool=views.PoolView(configured=self.scaled, workers=(WORKER,)),
                queue=views.QueueView(**counts),
                recycles=views.RecyclesView(rss_ceiling=3),
                engine=views.EngineView(name="drill", state="ok"),
            )
        )

    def _drain(self, _request: requests.Drain) -> Reply:
        self.state = "draining"
        return self._drained()

    def _resume(self, _request: requests.Resume) -> Reply:
        self.state = "running"
        return self._drained()

    def _drained(self) -> Reply:
        running = sum(job.state == "running" for job in self.jobs.values())
        if self.state == "draining" and not running:
            self.state = "drained"
        return replies.Drained(views.DrainView(state=self.state, running=running))

    async def _wait_drained(self, request: requests.WaitDrained) -> Reply:
        await self._until(
            lambda: self._drained().drain.state != "draining",  # type: ignore[union-attr] # Drained
            request.timeout_s,
        )
        return self._drained()

    async def _wait(self, request: requests.Wait) -> Reply:
        for job in request.jobs:
            if job not in self.jobs:
                return self._unknown(job)
        await self._until(
            lambda: all(self.jobs[job].state in views.FINAL_STATES for job in request.jobs),
            request.timeout_s,
        )
        return replies.Jobs(views.JobsView(jobs=tuple(self.jobs[job] for job in request.jobs)))

    async def _segments(self, request: requests.Segments) -> Reply:
        if request.job not in self.jobs:
            return self._unknown(request.job)
        said = self.said.setdefault(request.job, [])
        at = int(request.cursor or 0)
        await self._until(
            lambda: len(said) > at or self.jobs[request.job].state in views.FINAL_STATES,
            request.timeout_s,
        )
        view = views.SegmentsView(
            job=self.jobs[request.job], segments=tuple(said[at:]), cursor=str(len(said))
        )
        return replies.Segments(view)

    async def _until(self, true: Callable[[], bool], timeout_s: float) -> None:
        deadline = self._loop.time() + timeout_s
        while not true() and self._loop.time() < deadline:  # noqa: ASYNC110 - the test's thread acts
            await asyncio.sleep(POLL_S)

    def _unknown(self, job: str) -> Reply:
        near = [known for known in self.jobs if known[:8] == job[:8]]
        hint = f"did you mean {', '.join(near)}?" if near else ""
        return Error.of(Code.UNKNOWN_JOB, f"no job {job}", hint)

    def _jobs(self, request: requests.Jobs) -> Reply:
        found = sorted(self.jobs.values(), key=lambda job: job.job, reverse=True)
        fit = [
            job
            for job in found
            if request.state in (None, job.state)
            and (request.before is None or job.job < request.before)
        ]
        more = fit[request.limit - 1].job if len(fit) > request.limit else None
        return replies.Jobs(views.JobsView(jobs=tuple(fit[: request.limit]), next=more))

    def _show(self, request: requests.Show) -> Reply:
        if request.job not in self.jobs:
            return self._unknown(request.job)
        timeline = tuple(event for event in self.history if event.get("job") == request.job)
        job = msgspec.structs.asdict(self.jobs[request.job])
        return replies.Detail(views.JobDetailView(**job, timeline=timeline))

    def _cancel(self, request: requests.Cancel) -> Reply:
        if request.job not in self.jobs:
            return self._unknown(request.job)
        if self.jobs[request.job].state in ("succeeded", "failed"):
            return Error.of(Code.WRONG_STATE, f"job {request.job} is over")
        self.change(request.job, state="cancelled", finished=CREATED)
        return replies.OneJob(self.jobs[request.job])

    def _retry(self, request: requests.Retry) -> Reply:
        failed = [job for job, view in self.jobs.items() if view.state == "failed"]
        for job in failed if request.job is None else [request.job]:
            self.change(job, state="queued", finished=None, error=None)
        if request.job is None:
            return replies.Retried(views.RetriedView(retried=len(failed)))
        return replies.OneJob(self.jobs[request.job])

    def _workers(self, _request: requests.Workers) -> Reply:
        return replies.Workers(views.WorkersView(workers=(WORKER,)))

    def _recycle(self, request: requests.Recycle) -> Reply:
        if request.worker not in (None, WORKER.id):
            return Error.of(Code.UNKNOWN_WORKER, f"no worker {request.worker}", "workers are w-17")
        return replies.Recycling(views.RecycleView(workers=(WORKER.id,)))

    def _scale(self, request: requests.Scale) -> Reply:
        previous, self.scaled = self.scaled, request.workers
        return replies.Scaled(views.ScaleView(configured=self.scaled, previous=previous))

    def _reload(self, _request: requests.Reload) -> Reply:
        view = views.ReloadView(changed=("pool.workers",), needs_restart=("engine.name",))
        return replies.Reloaded(view)

    def _events(self, request: requests.Events) -> Reply:
        fit = [
            event
            for event in self.history
            if not request.events
            or any(
                event["event"] == name or str(event["event"]).startswith(f"{name}.")
                for name in request.events
            )
        ]
        return replies.Events(views.EventsView(events=tuple(fit[-request.limit :])))

    def _version(self, _request: requests.Version) -> Reply:
        return replies.Version(
            views.VersionView(
                version="1.2", protocol=requests.PROTOCOL, events_endpoint=self.events_endpoint
            )
        )

    def _submit_path(self, request: requests.SubmitPath) -> Reply:
        if not self.allow_path(request.path):
            return Error.of(Code.NOT_ALLOWED, f"{request.path} is not beneath allow_paths")
        path = Path(request.path)
        return self._known(request.key) or self._submitted(request, path.name, path.read_bytes())

    def _submit_url(self, _request: requests.SubmitUrl) -> Reply:
        return Error.of(Code.DISABLED, "url.enabled is false", "set it")

    async def _fetch(self, request: requests.Fetch) -> Answer:
        if request.job not in self.jobs:
            return self._unknown(request.job)
        if request.output not in self.jobs[request.job].outputs:
            return Error.of(Code.UNKNOWN_OUTPUT, f"no output {request.output}")
        return await read_output(self.outbox, request.output, request.offset)


WORKER = views.WorkerView(
    id="w-17",
    pid=4242,
    state="busy",
    requests=3,
    rss_bytes=123 << 20,
    peak_rss_bytes=150 << 20,
    pss_bytes=100 << 20,
    threads=4,
    fds=12,
    age_s=3700.0,
    job="0190a5c6-0000-7000-8000-000000000001",
)


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Daemon]:
    """A daemon that answers in `folder` for as long as the block lasts."""
    daemon = Daemon(folder)
    daemon.start(**settings)
    try:
        yield daemon
    finally:
        daemon.hold.clear()
        daemon.stop()
