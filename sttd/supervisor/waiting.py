"""Waiting for jobs to be at rest: the row final, and what a failed job leaves where users find it.

Looks again whenever something was announced. Knows nothing of requests and replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from sttd.core.jobs import FINAL, PUT_ASIDE
from sttd.supervisor.bell import Bell
from sttd.supervisor.records import JobRow

POLL_S = 0.05  # how often to look again when nothing rang
PATIENCE_S = 3.0  # with an original that a full disk keeps from being put away


class WaitingLedger(Protocol):
    """What waiting needs of the ledger."""

    async def job(self, job: str) -> JobRow | None:
        """One row."""
        ...


class Waiting:
    """One for the daemon's life; `bell` is rung for whatever is announced of jobs."""

    def __init__(self, ledger: WaitingLedger, bell: Bell, patience_s: float = PATIENCE_S) -> None:
        self._ledger = ledger
        self._bell = bell
        self._patience_s = patience_s

    async def at_rest(self, jobs: Sequence[str], timeout_s: float) -> dict[str, JobRow]:
        """Their rows once all are at rest, or as they are when the time is over.

        A job that there is not (or no more) is left out, and nobody waits for the others.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + timeout_s
        rows: dict[str, JobRow] = {}
        patient_until: dict[str, float] = {}
        open_jobs = list(jobs)
        while True:
            ticket = self._bell.ticket()
            for job in open_jobs:
                row = await self._ledger.job(job)
                if row is None:
                    rows.pop(job, None)
                    return rows
                rows[job] = row
                if row.state in FINAL:
                    patient_until.setdefault(job, now() + self._patience_s)
            open_jobs = [
                job
                for job in open_jobs
                if not _is_at_rest(rows[job]) and now() < patient_until.get(job, deadline)
            ]
            left = deadline - now()
            if left <= 0 or not open_jobs:
                return rows
            leaving = any(rows[job].state in FINAL for job in open_jobs)
            await self._bell.wait(ticket, min(left, POLL_S) if leaving else left)


def _is_at_rest(row: JobRow) -> bool:
    """Who is told that a job failed finds its original and its .error.json in failed/."""
    return row.state in FINAL and (row.disposed or row.state not in PUT_ASIDE)
