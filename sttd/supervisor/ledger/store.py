"""The connection, and what operations need beside it: clocks, and who knows the disk's names.

Runs named statements only. It knows no thread, no batch and no job.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from sttd.supervisor.ledger.statements import SQL

Value = None | int | float | bytes | str
Row = tuple[Any, ...]


class Store:
    """The one connection to the ledger's file."""

    __slots__ = (
        "_execute",
        "after_crash",
        "connection",
        "epoch",
        "now_boottime_ns",
        "now_wall_ns",
        "path",
        "taken",
    )

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        *,
        now_boottime_ns: Callable[[], int],
        now_wall_ns: Callable[[], int],
        taken: Callable[[str], bool],
    ) -> None:
        self.connection = connection
        self._execute = connection.cursor().execute  # one cursor: no query is left half read
        self.path = path
        self.now_boottime_ns = now_boottime_ns
        self.now_wall_ns = now_wall_ns
        self.taken = taken
        self.epoch = 0
        self.after_crash = False

    def run(self, name: str, /, **bindings: Value) -> int:
        """Carry out a statement; how many rows it changed (those changed by triggers apart)."""
        self._execute(SQL[name], bindings)
        return self.connection.changes()

    def rows(self, name: str, /, **bindings: Value) -> list[Row]:
        """All rows of a query."""
        return self._execute(SQL[name], bindings).fetchall()

    def row(self, name: str, /, **bindings: Value) -> Row | None:
        """The only row of a query, or None."""
        found = self._execute(SQL[name], bindings).fetchall()
        return found[0] if found else None

    def script(self, name: str) -> None:
        """Carry out a block of several statements without values."""
        self._execute(SQL[name], can_cache=False).fetchall()
