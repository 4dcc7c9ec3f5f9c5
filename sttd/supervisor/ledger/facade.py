"""The ledger as the supervisor's event loop sees it: one coroutine for each operation.

Hands everything to the ledger's thread and awaits the commit; it decides nothing, and holds no
state of any job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from sttd.core.jobs import Job, JobState
from sttd.supervisor.ledger import intake, moves, upkeep
from sttd.supervisor.ledger.ballast import DEFAULT_BYTES, Ballast
from sttd.supervisor.ledger.buffer import Buffer, Note
from sttd.supervisor.ledger.errors import LedgerError, LedgerFull
from sttd.supervisor.ledger.group import INTAKE, OUTSIDE, WRITE
from sttd.supervisor.ledger.opening import open_store
from sttd.supervisor.ledger.questions import Questions
from sttd.supervisor.ledger.store import Store
from sttd.supervisor.ledger.thread import LedgerThread
from sttd.supervisor.records import Attempt, EventRow, JobRow, NewJob, WorkerLife

_NOTES_KEPT = 10_000  # unwritten events; some megabytes when the disk is full for hours


def _nothing_taken(_name: str) -> bool:
    return False


class Ledger(Questions):
    """The durable record of jobs.

    An operation returns when the commit that holds it is on the disk. Cancelling an await does not
    undo the operation, it only loses the answer: whoever cancels `claim` leaves jobs `running`.

    Every operation raises LedgerFull when the disk is full (nothing has changed), LedgerBroken once
    a commit has failed otherwise, LedgerError for a refused value or a lock held by a stranger.
    """

    def __init__(self, store: Store, ballast: Ballast) -> None:
        self._buffer = Buffer(_NOTES_KEPT)
        self._ballast = ballast
        super().__init__(store, LedgerThread(store, self._buffer, ballast))

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        boot_id: str,
        now_boottime_ns: Callable[[], int],
        now_wall_ns: Callable[[], int],
        taken: Callable[[str], bool] = _nothing_taken,
        ballast_bytes: int = DEFAULT_BYTES,
        busy_timeout_s: float = 5.0,
        vfs: str | None = None,
    ) -> Ledger:
        """Open or create the ledger at `path`, check it and bring it up to date.

        `boot_id` is /proc/sys/kernel/random/boot_id, `now_boottime_ns` reads CLOCK_BOOTTIME,
        `now_wall_ns` the wall clock; `taken` tells whether an output name stands on the disk
        already. All three are called on the ledger's thread. The ballast (0: none) lies beside
        the file, and is given up where there is no room to open it. `vfs` names a SQLite VFS, for
        tests of failing disks.

        Raises:
            LedgerCorrupt: the file is damaged.
            LedgerFull: there is no room to create or migrate it.
            LedgerError: it cannot be opened, is no ledger, or is that of a newer sttd.
        """
        opening = partial(
            open_store,
            path,
            boot_id=boot_id,
            now_boottime_ns=now_boottime_ns,
            now_wall_ns=now_wall_ns,
            taken=taken,
            busy_timeout_s=busy_timeout_s,
            vfs=vfs,
        )
        ballast = Ballast(path.with_name("ballast"), ballast_bytes)
        try:
            store = opening()
        except LedgerFull:
            if not ballast.release():
                raise
            return cls(opening(), ballast)
        ballast.restore()
        return cls(store, ballast)

    def start(self, on_broken: Callable[[LedgerError], None]) -> None:
        """Start the one thread, inside the running loop; `on_broken` is called there, once."""
        self._thread.start(on_broken)

    async def close(self) -> None:
        """Finish what was asked, mark a clean end, checkpoint, end the thread. Safe to repeat.

        Raises:
            LedgerError: the last notes or the mark could not be written; it is closed all the same.
        """
        await self._thread.close()

    # -- what it is like ---------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """How many times this ledger has been opened."""
        return self._store.epoch

    @property
    def after_crash(self) -> bool:
        """Did the daemon before this one end without closing the ledger?"""
        return self._store.after_crash

    @property
    def dropped_notes(self) -> int:
        """Events and the like that were never written, because the buffer was full."""
        return self._buffer.dropped

    @property
    def ballast_held(self) -> bool:
        """False from a full disk until `restore_ballast` has succeeded."""
        return self._ballast.held

    # -- arrival -----------------------------------------------------------------------------

    async def begin(self, new: Sequence[NewJob]) -> list[JobRow]:
        """Record as claiming; the existing row where `key` (or `id`) is known already."""
        return await self._ask(INTAKE, intake.begin, list(new))

    async def accept(self, ids: Sequence[str]) -> None:
        """Claiming -> queued."""
        await self._ask(WRITE, intake.accept, list(ids))

    async def withdraw(self, ids: Sequence[str]) -> None:
        """Claiming -> withdrawn; output names and keys are free again."""
        await self._ask(WRITE, intake.withdraw, list(ids))

    async def adopt(self, new: NewJob, *, attempt: int = 0, segments: int = 0) -> JobRow:
        """Record as queued what lay in the spool without a row; the existing row if there is one.

        A key that another job has by now is dropped.
        """
        return await self._ask(INTAKE, intake.adopt, new, attempt=attempt, segments=segments)

    # -- running -----------------------------------------------------------------------------

    async def claim(self, limit: int, *, probe: bool = False) -> list[Job]:
        """Queued -> running, attempt + 1, each under a new token; urgent first, then oldest.

        `probe`: those of them that were tried least.
        """
        return await self._ask(WRITE, moves.claim, limit, probe=probe)

    async def assigned(self, job: str, token: str, worker: str) -> None:
        """Note which worker got it; written with a later commit."""
        self._note([("assigned", {"job": job, "token": token, "worker": worker})])

    async def progress(self, updates: Sequence[tuple[str, str, float]]) -> None:
        """Note (job, token, position in seconds); only the latest is written, a little later."""
        if self._thread.open and self._buffer.add_progress(updates):
            self._thread.nudge()

    async def rename_output(self, job: str) -> str:
        """Reserve another output name for a running job, whose own is taken on the disk.

        Raises:
            LedgerError: the job is not running.
        """
        return await self._ask(WRITE, moves.rename_output, job)

    async def succeed(
        self,
        job: str,
        token: str,
        *,
        outputs: Sequence[str],
        duration_s: float | None,
        sha256: str | None,
        segments: int,
    ) -> bool:
        """Running -> succeeded; False: not running under that token, nothing has changed."""
        return await self._ask(
            WRITE,
            moves.succeed,
            job,
            token,
            outputs=list(outputs),
            duration_s=duration_s,
            sha256=sha256,
            segments=segments,
        )

    async def requeue(
        self,
        job: str,
        token: str,
        *,
        delay_s: float,
        failures: int,
        crashes: int,
        segments: int,
        interrupted: bool,
        attempt: Attempt | None,
    ) -> bool:
        """Running -> queued, or deferred for `delay_s` seconds; the counters are set as given.

        False: not running under that token, nothing has changed.
        """
        return await self._ask(
            WRITE,
            moves.requeue,
            job,
            token,
            delay_s=delay_s,
            failures=failures,
            crashes=crashes,
            segments=segments,
            interrupted=interrupted,
            attempt=attempt,
        )

    async def fail(
        self,
        job: str,
        token: str | None,
        *,
        code: str,
        message: str,
        attempt: Attempt | None,
    ) -> bool:
        """Running -> failed; without a token, claiming or queued -> failed. False: neither."""
        return await self._ask(
            WRITE, moves.fail, job, token, code=code, message=message, attempt=attempt
        )

    async def cancel(self, job: str, token: str | None) -> JobState | None:
        """queued, deferred, or running under the token -> cancelled; None: it could not."""
        return await self._ask(WRITE, moves.cancel, job, token)

    async def retry(self, job: str) -> bool:
        """failed, cancelled -> queued, counters zero; the number of starts goes on."""
        return await self._ask(WRITE, moves.retry, job)

    async def disposed(self, job: str, original: str | None) -> None:
        """The original of a finished job was put away there (None: deleted)."""
        await self._ask(WRITE, moves.disposed, job, original)

    async def wake(self) -> tuple[int, float | None]:
        """Deferred -> queued where the time has come; how many, and seconds until the next.

        0.0 seconds: more are due, ask again.
        """
        return await self._ask(WRITE, moves.wake)

    async def interrupted(self) -> int:
        """At the start: running -> queued, interrupted + 1; how many."""
        return await self._ask(WRITE, moves.interrupted)

    # -- notes -------------------------------------------------------------------------------

    async def record(self, events: Sequence[EventRow]) -> None:
        """Keep the events; returns at once, they are written within a second."""
        self.note(events)

    def note(self, events: Iterable[EventRow]) -> None:
        """The same as `record`, for callers that are no coroutine. On the loop's thread only."""
        self._note([("add_event", msgspec.structs.asdict(event)) for event in events])

    async def record_life(self, life: WorkerLife) -> None:
        """Keep how a worker ended; returns at once, it is written within a second."""
        self._note([("add_life", msgspec.structs.asdict(life))])

    # -- upkeep ------------------------------------------------------------------------------

    async def prune(self, rows_before_ns: int, events_before_ns: int, limit: int = 500) -> int:
        """Delete up to `limit` of each kind that are older; how many: repeat until it is 0."""
        return await self._ask(WRITE, upkeep.prune, rows_before_ns, events_before_ns, limit)

    async def integrity(self) -> str:
        """Say "ok", or what is wrong. Reads everything, and nothing else is served meanwhile."""
        return await self._ask(OUTSIDE, upkeep.integrity)

    async def backup(self, path: Path) -> None:
        """Copy the ledger to `path`, whole or not at all, while it goes on serving.

        Raises:
            LedgerError: the copy cannot be written.
        """
        await self._ask(OUTSIDE, upkeep.backup, path)

    async def restore_ballast(self, keep_free: int) -> bool:
        """Make the ballast again if that leaves `keep_free` bytes free; is it there now?"""
        return await self._ask(OUTSIDE, self._restore_ballast, keep_free)

    # ----------------------------------------------------------------------------------------

    def _restore_ballast(self, _store: Store, keep_free: int) -> bool:
        return self._ballast.restore(keep_free)

    def _note(self, notes: Sequence[Note]) -> None:
        if self._thread.open and self._buffer.add(notes):
            self._thread.nudge()
