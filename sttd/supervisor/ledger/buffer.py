"""What may be written a little later: events, ends of workers, progress, who got which job.

A bounded buffer between the event loop, which never waits for it, and the ledger's thread, which
empties it into commits that happen anyway. The oldest notes are dropped when it is full, and
counted. It must hold nothing that a job depends on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence

from sttd.supervisor.ledger.store import Value

Note = tuple[str, dict[str, Value]]  # a statement's name and its values


class Buffer:
    """Notes in order, and the latest progress of each job."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._notes: deque[Note] = deque()
        self._progress: dict[str, Note] = {}
        self._most = most
        self._announced = False
        self.dropped = 0

    def add(self, notes: Iterable[Note]) -> bool:
        """Keep the notes; True when the thread must be told that there is something again."""
        with self._lock:
            self._notes.extend(notes)
            self._bound()
            return self._announce()

    def add_progress(self, updates: Sequence[tuple[str, str, float]]) -> bool:
        """Keep the latest of each (job, token, position_s); True as in `add`."""
        with self._lock:
            for job, token, position_s in updates:
                values: dict[str, Value] = {"job": job, "token": token, "position_s": position_s}
                self._progress[job] = ("progress", values)
            return self._announce()

    def take(self, most: int | None) -> list[Note]:
        """Up to `most` notes (None: all) and all progress, to be written now."""
        if not self._announced:  # nothing was added since it was emptied: spare the lock
            return []
        with self._lock:
            many = len(self._notes) if most is None else min(most, len(self._notes))
            taken = [self._notes.popleft() for _ in range(many)]
            taken.extend(self._progress.values())
            self._progress.clear()
            self._announced = bool(self._notes)
            return taken

    def put_back(self, notes: Sequence[Note]) -> None:
        """They could not be written after all; they are the oldest again."""
        with self._lock:
            self._notes.extendleft(reversed(notes))
            self._bound()
            self._announced = self._announced or bool(notes)

    def count_dropped(self) -> None:
        """One was no good (a value that SQLite cannot hold)."""
        with self._lock:
            self.dropped += 1

    def __len__(self) -> int:
        with self._lock:
            return len(self._notes) + len(self._progress)

    def _bound(self) -> None:
        while len(self._notes) > self._most:
            self._notes.popleft()
            self.dropped += 1

    def _announce(self) -> bool:
        announced, self._announced = self._announced, True
        return not announced
