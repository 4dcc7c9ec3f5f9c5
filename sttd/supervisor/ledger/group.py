"""One transaction for everything that was asked in the meantime, and what a full disk does to it.

Each operation of a group stands or falls by itself (a savepoint around each); the group is
committed once. Knows neither threads nor what the operations do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import apsw

from sttd.supervisor.ledger.ballast import Ballast
from sttd.supervisor.ledger.buffer import Buffer, Note
from sttd.supervisor.ledger.errors import LedgerError, LedgerFull, is_own, named
from sttd.supervisor.ledger.statements import SQL
from sttd.supervisor.ledger.store import Store

_BUSY_TRIES: Final = 12  # of busy_timeout_s each: a minute, then whoever asked is told


class Kind(NamedTuple):
    """What an operation needs of the group."""

    writes: bool = False  # needs a transaction
    new_work: bool = False  # the first to be refused on a full disk
    after_notes: bool = False  # every note must have been written before
    outside: bool = False  # must not run inside a transaction


READ: Final = Kind()
READ_NOTES: Final = Kind(after_notes=True)
WRITE: Final = Kind(writes=True)
INTAKE: Final = Kind(writes=True, new_work=True)
OUTSIDE: Final = Kind(outside=True)


class Operation:
    """What somebody asked, and the future that awaits the answer."""

    __slots__ = ("arguments", "function", "future", "keywords", "kind")

    def __init__(
        self,
        kind: Kind,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        future: asyncio.Future[Any],
    ) -> None:
        self.kind = kind
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.future = future


class Answer(NamedTuple):
    """What became of an operation."""

    operation: Operation
    result: Any = None
    error: Exception | None = None


class Group:
    """Carries out groups of operations on the store."""

    def __init__(self, store: Store, buffer: Buffer, ballast: Ballast) -> None:
        self._store = store
        self._buffer = buffer
        self._ballast = ballast

    def serve(self, batch: Sequence[Operation], most_notes: int | None) -> list[Answer]:
        """Carry out the batch, with up to `most_notes` notes (None: all, 0: none at all).

        Raises:
            LedgerBroken: a commit failed, or the file cannot be read; nothing more may be asked.
            LedgerError: another process held the lock for a minute; nothing has changed.
        """
        try:
            return self._transaction(batch, most_notes)
        except LedgerFull as full:
            return self._with_less_room(batch, full)

    def _with_less_room(self, batch: Sequence[Operation], full: LedgerFull) -> list[Answer]:
        """Nothing of the batch has happened. Sacrifice the ballast, settle, take on nothing new.

        Questions are answered all the same; notes wait in the buffer, they are not worth it.
        """
        writing = [operation for operation in batch if operation.kind.writes]
        freed = bool(writing) and self._ballast.release()
        refused = [operation for operation in writing if operation.kind.new_work or not freed]
        again = [operation for operation in batch if operation not in refused]
        try:
            answers = self._transaction(again, 0)
        except LedgerFull as still:
            answers = refuse(again, still) if not writing else self._with_less_room(again, still)
        return answers + refuse(refused, full)

    def _transaction(self, batch: Sequence[Operation], most_notes: int | None) -> list[Answer]:
        writing = any(operation.kind.writes for operation in batch)
        notes = [] if most_notes == 0 else self._buffer.take(most_notes)
        try:
            if not writing and not notes:
                return [self._perform(operation, guarded=False) for operation in batch]
            return self._write(batch, notes)
        except apsw.Error as error:
            system_errno = self._store.connection.system_errno
            self._abandon(notes)
            raise named(error, self._store.path, system_errno) from error
        except BaseException:
            self._abandon(notes)
            raise

    def _write(self, batch: Sequence[Operation], notes: Sequence[Note]) -> list[Answer]:
        self._begin()
        self._write_notes(notes)
        guarded = len(batch) > 1 or bool(notes)
        answers = [self._perform(operation, guarded=guarded) for operation in batch]
        if not guarded and answers[0].error is not None:
            self._store.run("rollback")
        else:
            self._store.run("commit")
        return answers

    def _begin(self) -> None:
        for _ in range(_BUSY_TRIES - 1):
            with contextlib.suppress(apsw.BusyError):
                self._store.run("begin")
                return
        self._store.run("begin")

    def _write_notes(self, notes: Sequence[Note]) -> None:
        execute = self._store.connection.execute
        for name, values in notes:
            try:
                execute(SQL[name], values)
            except Exception as error:
                if not is_own(error):
                    raise
                self._buffer.count_dropped()

    def _perform(self, operation: Operation, *, guarded: bool) -> Answer:
        """Its result, or its own error; an error of the disk concerns the whole batch."""
        guarded = guarded and operation.kind.writes
        if guarded:
            self._store.run("savepoint")
        try:
            result = operation.function(self._store, *operation.arguments, **operation.keywords)
            answer = Answer(operation, result)
        except Exception as error:
            if not is_own(error):
                raise
            if guarded:
                self._store.run("undo")
            answer = Answer(operation, error=_presented(error, self._store))
        if guarded:
            self._store.run("release")
        return answer

    def _abandon(self, notes: Sequence[Note]) -> None:
        self._buffer.put_back(notes)
        with contextlib.suppress(apsw.Error):  # SQLite may have rolled back by itself
            if self._store.connection.in_transaction:
                self._store.run("rollback")


def refuse(batch: Sequence[Operation], error: Exception) -> list[Answer]:
    """The same error for all."""
    return [Answer(operation, error=error) for operation in batch]


def _presented(error: Exception, store: Store) -> Exception:
    """SQLite's complaint about a value, as the ledger's; any other error as it is."""
    if not isinstance(error, apsw.Error):
        return error
    refusal = LedgerError(f"{store.path}: refused: {error}; nothing was changed")
    refusal.__cause__ = error
    return refusal
