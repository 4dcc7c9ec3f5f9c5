"""The ledger's one thread: takes what is asked, commits it in groups, answers.

While one commit waits for the disk the next group gathers, so a busy daemon pays one fsync for
many operations and a quiet one waits for nobody. Knows neither jobs nor SQL; the store is touched
by this thread alone once it runs.
"""

from __future__ import annotations

import asyncio
import enum
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import apsw

from sttd.supervisor.ledger.ballast import Ballast
from sttd.supervisor.ledger.buffer import Buffer
from sttd.supervisor.ledger.errors import LedgerBroken, LedgerError, is_own, named
from sttd.supervisor.ledger.group import Answer, Group, Operation, refuse
from sttd.supervisor.ledger.store import Store

THREAD_NAME: Final = "sttd-ledger"
_BATCH: Final = 256  # operations in one commit: a failure undoes no more, answers come in time
_NOTES_BESIDE: Final = 64  # notes in a commit that somebody waits for
_NOTES_WAIT_S: Final = 1.0  # the longest that a note stays unwritten


class _Signal(enum.Enum):
    NOTES = enum.auto()  # what is in the buffer has waited long enough
    STOP = enum.auto()


class LedgerThread:
    """Owns the store from `start` on, until `close` has closed it."""

    def __init__(self, store: Store, buffer: Buffer, ballast: Ballast) -> None:
        self._store = store
        self._buffer = buffer
        self._group = Group(store, buffer, ballast)
        self._queue: queue.SimpleQueue[Operation | _Signal] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed: asyncio.Future[None] | None = None
        self._chores: deque[tuple[Operation, Iterator[None]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None  # until the thread is told of notes
        self._notes_due: float | None = None  # time.monotonic()
        self._stopping = False
        self.broken: LedgerError | None = None

    def start(self, on_broken: Callable[[LedgerError], None]) -> None:
        """Begin to serve; answers and `on_broken` come through the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._on_broken = on_broken
        # A daemon thread: a supervisor that dies of a bug must not hang here on its way out.
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    @property
    def open(self) -> bool:
        """Is it started and not yet asked to stop?"""
        return self._thread is not None and self._closed is None

    def ask(self, operation: Operation) -> None:
        """Carry it out with the next group."""
        self._queue.put(operation)

    def nudge(self) -> None:
        """The buffer has something again: it goes with the next commit, or in a while alone.

        Waking the thread for each note would cost more than writing them.
        """
        if self._alarm is None:
            self._alarm = self._loop.call_later(_NOTES_WAIT_S, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._queue.put(_Signal.NOTES)

    async def close(self) -> None:
        """Finish what was asked, mark a clean end, close the file. Safe to call twice.

        Raises:
            LedgerError: the last notes or the mark could not be written.
        """
        if self._thread is None:
            self._shut()
            return
        if self._closed is None:
            if self._alarm is not None:
                self._alarm.cancel()
            self._closed = self._loop.create_future()
            self._queue.put(_Signal.STOP)
        try:
            await asyncio.shield(self._closed)
        finally:
            if self._closed.done():
                self._thread.join()

    # -- all below runs on the ledger's thread ---------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            batch = self._gather()
            if batch or self._due():
                self._serve(batch)
            self._step()
        while self._chores:
            self._step()
        error: LedgerError | None = None
        try:
            self._shut()
        except LedgerError as failed:
            error = failed
        self._tell(self._settle_closed, error)

    def _gather(self) -> list[Operation]:
        """Wait for something to do; everything that was asked by then."""
        batch: list[Operation] = []
        try:
            item = self._queue.get(timeout=self._patience())
        except queue.Empty:
            return batch
        while True:
            if isinstance(item, Operation):
                batch.append(item)
            elif item is _Signal.STOP:
                self._stopping = True
            elif self._notes_due is None:
                self._notes_due = time.monotonic()
            if len(batch) >= _BATCH or self._queue.empty():
                return batch
            item = self._queue.get()  # does not wait: nobody else takes

    def _patience(self) -> float | None:
        if self._chores:
            return 0.0
        if self._notes_due is None:
            return None
        return max(0.0, self._notes_due - time.monotonic())

    def _due(self) -> bool:
        return self._notes_due is not None and self._notes_due <= time.monotonic()

    def _serve(self, batch: Sequence[Operation]) -> None:
        outside = [operation for operation in batch if operation.kind.outside]
        inside = [each for each in batch if each not in outside] if outside else batch
        answers = self._inside(inside)
        for operation in outside:
            answers.extend(self._outside(operation))
        self._answer(answers)

    def _inside(self, batch: Sequence[Operation]) -> list[Answer]:
        if self.broken is not None:
            self._notes_due = None
            return refuse(batch, self.broken)
        try:
            answers = self._group.serve(batch, self._most_notes(batch))
        except LedgerBroken as broken:
            return refuse(batch, self._break(broken))
        except LedgerError as error:
            answers = refuse(batch, error)
        except Exception as error:  # noqa: BLE001 - a bug here must not leave anybody waiting
            return refuse(batch, self._break(self._bug(error)))
        self._plan_notes()
        return answers

    def _most_notes(self, batch: Sequence[Operation]) -> int | None:
        if any(operation.kind.after_notes for operation in batch) or self._due():
            return None
        return _NOTES_BESIDE if any(operation.kind.writes for operation in batch) else 0

    def _plan_notes(self) -> None:
        """What is left waits its time; what could not be written does too: no busy loop."""
        if not len(self._buffer):
            self._notes_due = None
        elif self._due():
            self._notes_due = time.monotonic() + _NOTES_WAIT_S

    def _outside(self, operation: Operation) -> list[Answer]:
        """Carry it out now, or, where it goes in steps, begin with it."""
        if self.broken is not None:
            return refuse([operation], self.broken)
        try:
            result = operation.function(self._store, *operation.arguments, **operation.keywords)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            return refuse([operation], self._presented(error))
        if isinstance(result, Iterator):
            self._chores.append((operation, result))
            return []
        return [Answer(operation, result)]

    def _step(self) -> None:
        """One step of the longest-waiting chore."""
        if not self._chores:
            return
        operation, chore = self._chores[0]
        try:
            next(chore)
        except StopIteration:
            answer = Answer(operation)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            answer = Answer(operation, error=self._presented(error))
        else:
            return
        self._chores.popleft()
        self._answer([answer])

    def _presented(self, error: Exception) -> Exception:
        if isinstance(error, apsw.Error) and not is_own(error):
            error = named(error, self._store.path, self._store.connection.system_errno)
        if isinstance(error, LedgerBroken):
            return self._break(error)
        return error

    def _break(self, error: LedgerError) -> LedgerError:
        """From now on everything is refused; the daemon is told, once."""
        if self.broken is None:
            self.broken = error
            self._notes_due = None
            self._tell(self._on_broken, error)
        return self.broken

    def _bug(self, error: Exception) -> LedgerBroken:
        bug = LedgerBroken(f"{self._store.path}: error inside the ledger: {error!r}; report it")
        bug.__cause__ = error
        return bug

    def _shut(self) -> None:
        """Write what is left, mark the end as clean, fold the WAL into the file, close it."""
        connection = self._store.connection
        try:
            if self.broken is None:
                self._group.serve([], None)
                self._store.run("end_epoch", epoch=self._store.epoch, now=self._store.now_wall_ns())
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.Error as error:
            self.broken = named(error, self._store.path, connection.system_errno)
            raise self.broken from error
        except LedgerError as error:
            self.broken = error
            raise
        finally:
            if self.broken is not None:
                # what is in the WAL is judged by the next start, on a disk that works again
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.close()

    def _answer(self, answers: list[Answer]) -> None:
        if answers:
            self._tell(_deliver, answers)

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            return

    def _settle_closed(self, error: LedgerError | None) -> None:
        """On the event loop: whoever awaits `close` goes on."""
        closed = self._closed
        if closed is None or closed.done():
            return
        if error is None:
            closed.set_result(None)
        else:
            closed.set_exception(error)


def _deliver(answers: Sequence[Answer]) -> None:
    """On the event loop: everybody in the group goes on; a cancelled waiter missed it."""
    for operation, result, error in answers:
        if operation.future.done():
            continue
        if error is None:
            operation.future.set_result(result)
        else:
            operation.future.set_exception(error)
