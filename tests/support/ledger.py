"""What tests of the ledger share: clocks that stand still, jobs in any state, disks that fail."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ParamSpec

import apsw

from sttd.core.jobs import Job, JobState
from sttd.supervisor.ledger import Ledger, LedgerError
from sttd.supervisor.ledger.group import READ
from sttd.supervisor.records import Attempt, NewJob, Signature, WorkerLife

P = ParamSpec("P")
SECOND = 1_000_000_000
WALL = 2_000_000_000 * SECOND


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, on a loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Clock:
    """Stands still until it is told; the wall moves a nanosecond at each look, as clocks do."""

    def __init__(self) -> None:
        self.boottime_ns = 1000 * SECOND
        self.wall_ns = WALL

    def boottime(self) -> int:
        return self.boottime_ns

    def wall(self) -> int:
        self.wall_ns += 1
        return self.wall_ns


def open_ledger(path: Path, clock: Clock | None = None, **options: Any) -> Ledger:
    """The ledger at `path`, not yet started; no ballast unless asked for."""
    clock = clock or Clock()
    defaults: dict[str, Any] = {"boot_id": "this boot", "ballast_bytes": 0}
    options = defaults | options
    return Ledger.open(path, now_boottime_ns=clock.boottime, now_wall_ns=clock.wall, **options)


@contextlib.asynccontextmanager
async def opened(path: Path, clock: Clock | None = None, **options: Any) -> AsyncIterator[Ledger]:
    """A started ledger that did not break, closed at the end."""
    broken: list[LedgerError] = []
    ledger = open_ledger(path, clock, **options)
    ledger.start(broken.append)
    try:
        yield ledger
    finally:
        await ledger.close()
    assert broken == []


def untold(error: LedgerError) -> None:
    """For `start`, where nothing may break."""
    raise AssertionError(error)


def job_id(number: int) -> str:
    return f"0196e000-{number >> 16:04x}-7000-8000-{number & 0xFFFF:012x}"


def new_job(number: int, **changes: Any) -> NewJob:
    values: dict[str, Any] = {
        "id": job_id(number),
        "kind": "inbox",
        "name": f"a/meeting-{number}.wav",
        "signature": Signature(1, number, 100 + number, WALL, WALL),
        "stem": f"a/meeting-{number}",
    }
    return NewJob(**values | changes)


def attempt(number: int, code: str = "failed") -> Attempt:
    return Attempt(attempt=number, worker="w-1", code=code, message="it failed", at_ns=WALL)


def life(worker: str, ended: int) -> WorkerLife:
    """How a worker ended, so many seconds after WALL."""
    return WorkerLife(
        worker=worker,
        pid=4711,
        cause="rss_ceiling",
        decider="policy",
        rss_bytes=400 << 20,
        peak_rss_bytes=None,
        jobs=17,
        leak_per_job=1024.5,
        age_s=3.25,
        kill_latency_s=0.01,
        replacement_latency_s=None,
        started_ns=WALL,
        ended_ns=WALL + ended * SECOND,
        detail='{"why":"it leaked"}',
    )


REQUEUE: dict[str, Any] = {
    "delay_s": 0.0,
    "failures": 1,
    "crashes": 0,
    "segments": 0,
    "interrupted": False,
    "attempt": None,
}
SUCCEED: dict[str, Any] = {"outputs": ["a.json"], "duration_s": 1.5, "sha256": "ab", "segments": 2}
FAIL: dict[str, Any] = {"code": "invalid_audio", "message": "no audio in it", "attempt": None}


async def job_in(ledger: Ledger, state: JobState, number: int = 1) -> str:
    """A job that has come to `state` by the shortest way; its id."""
    (row,) = await ledger.begin([new_job(number, priority=number)])  # claimed before others
    if state is JobState.WITHDRAWN:
        await ledger.withdraw([row.id])
    elif state is not JobState.CLAIMING:
        await ledger.accept([row.id])
    ways: dict[JobState, Callable[[], Awaitable[object]]] = {
        JobState.RUNNING: lambda: claim_one(ledger),
        JobState.DEFERRED: lambda: _defer(ledger),
        JobState.SUCCEEDED: lambda: _succeed(ledger),
        JobState.FAILED: lambda: ledger.fail(row.id, None, **FAIL),
        JobState.CANCELLED: lambda: ledger.cancel(row.id, None),
    }
    if state in ways:
        await ways[state]()
    found = await ledger.job(row.id)
    assert found is not None
    assert found.state is state
    return row.id


async def claim_one(ledger: Ledger) -> Job:
    (job,) = await ledger.claim(1)
    return job


async def _defer(ledger: Ledger) -> None:
    job = await claim_one(ledger)
    assert await ledger.requeue(job.id, job.token, **REQUEUE | {"delay_s": 30.0})


async def _succeed(ledger: Ledger) -> None:
    job = await claim_one(ledger)
    assert await ledger.succeed(job.id, job.token, **SUCCEED)


def commits(ledger: Ledger) -> list[int]:
    """Grows by one with each commit that writes."""
    made: list[int] = []

    def hook() -> bool:
        made.append(1)
        return False

    ledger._store.connection.set_commit_hook(hook)
    return made


@contextlib.contextmanager
def busy_thread(ledger: Ledger) -> Iterator[None]:
    """The ledger's thread is held up inside; what is asked meanwhile becomes one group."""
    free = threading.Event()
    holding = threading.Event()

    def hold(_store: object) -> None:
        holding.set()
        assert free.wait(30)

    ledger._ask(READ, hold)
    assert holding.wait(30)
    try:
        yield
    finally:
        free.set()


_names = itertools.count()


class Disk(apsw.VFS):
    """A disk that remembers what was synced, and fails on request.

    `durable` holds, by path, what a power cut would leave: the bytes of each file at its last
    fsync. While `failing` names an error, every fsync of a -wal file raises it.
    """

    def __init__(self) -> None:
        self.name = f"failing-disk-{next(_names)}"
        self.durable: dict[str, bytes] = {}
        self.failing: Callable[[], Exception] | None = None
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: Any) -> File:  # noqa: N802 - SQLite's own name
        return File(self, name, flags)


class File(apsw.VFSFile):
    """A file on such a disk."""

    def __init__(self, disk: Disk, name: Any, flags: Any) -> None:
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's own name
        failing = self._disk.failing
        if failing is not None and self._path.endswith("-wal"):
            raise failing()
        super().xSync(flags)
        self._disk.durable[self._path] = Path(self._path).read_bytes()


def failed_fsync() -> Exception:
    """What SQLite's own VFS reports when fdatasync() says EIO."""
    error = apsw.IOError("disk I/O error")
    vars(error)["extendedresult"] = apsw.SQLITE_IOERR_FSYNC
    return error
