"""Announced events on their way into the ledger: which are kept, and in what shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec

from sttd.supervisor.ledger import Ledger
from sttd.supervisor.records import EventRow
from sttd.supervisor.views import nanoseconds

# Events that the ledger does not keep: too many, and of the moment.
PASSING = frozenset({"job.progress", "worker.trimmed", "worker.output"})
MILLISECOND = 1_000_000


def keeper(ledger: Ledger) -> Callable[[str, Mapping[str, object]], None]:
    """A listener of the log that keeps what is worth keeping."""

    def keep(name: str, record: Mapping[str, object]) -> None:
        if name not in PASSING:
            ledger.note([event_row(name, record)])

    return keep


def event_row(name: str, record: Mapping[str, object]) -> EventRow:
    """A record as the ledger keeps it."""
    head = ("timestamp", "event", "job", "worker")
    rest = {key: value for key, value in record.items() if key not in head}
    job, worker = record.get("job"), record.get("worker")
    return EventRow(
        at_ns=_told_ns(record),
        name=name,
        job=str(job) if job else None,
        worker=str(worker) if worker else None,
        fields_json=msgspec.json.encode(rest).decode(),
    )


def _told_ns(record: Mapping[str, object]) -> int:
    """Now, but in the record's own millisecond: it may have been held until the ledger was open."""
    told = nanoseconds(str(record["timestamp"])) or 0
    return min(time.time_ns(), told + MILLISECOND - 1)
