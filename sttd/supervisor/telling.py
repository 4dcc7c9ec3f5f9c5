"""What arrivals have to say, as events for the log and the core. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from sttd.core.events import JobsWaiting, TroubleChanged
from sttd.supervisor.inbox import Rejection
from sttd.supervisor.loop import Loop
from sttd.supervisor.records import JobRow


class Telling:
    """The listener of `arrivals`."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._log = loop.log

    def accepted(self, rows: Sequence[JobRow]) -> None:
        """These jobs are durably queued."""
        for row in rows:
            self._accepted(row)
        self._loop.feed(JobsWaiting())

    def failed(self, row: JobRow) -> None:
        """Accepted, and failed at once."""
        self._accepted(row)
        self._log.event(
            "job.failed",
            job=row.id,
            source=row.name,
            attempt=row.attempt,
            worker=None,
            code=row.error_code,
            message=row.error_message,
        )

    def rejected(self, rejection: Rejection) -> None:
        """Left where it is."""
        self._log.event(
            "inbox.rejected", source=rejection.name, code="rejected", message=rejection.reason
        )

    def trouble(self, reason: str | None) -> None:
        """Nothing is claimed, for this reason."""
        if reason is not None:
            self._log.event("inbox.trouble", message=reason)
        self._loop.feed(TroubleChanged("inbox", reason))

    def _accepted(self, row: JobRow) -> None:
        self._log.event(
            "job.accepted",
            job=row.id,
            source=row.name,
            kind=row.kind,
            bytes=row.size,
            priority=row.priority,
            key=row.key,
        )
