"""What is known of a worker that is ended while it has a job goes into the job's spool folder.

Looks and writes; ends a worker only as it was told to, after looking.
"""

from __future__ import annotations

import msgspec

from sttd.core.supervision import Supervision
from sttd.supervisor.examine import Evidence, Thread
from sttd.supervisor.pool import Pool
from sttd.supervisor.sampling import Sampling
from sttd.supervisor.spool import Spool

# Ends of a worker about which its job's *.error.json tells more than the reason.
TELLING = frozenset({"stalled", "job_timeout", "rss_ceiling", "crashed"})


class Witness:
    """One for the daemon's life; it reads the core and changes nothing in it."""

    def __init__(self, core: Supervision, pool: Pool, sampling: Sampling, spool: Spool) -> None:
        self._core = core
        self._pool = pool
        self._sampling = sampling
        self._spool = spool

    def testify(
        self, worker: str, reason: str, stacks: str = "", threads: tuple[Thread, ...] = ()
    ) -> None:
        """Keep what is known of a worker, if it has a job and the reason does not say it all."""
        known = self._core.staff.workers.get(worker)
        if known is None or known.run is None or reason not in TELLING:
            return
        job = known.run.job
        evidence = Evidence(
            worker=worker,
            attempt=job.attempt,
            reason=reason,
            samples=self._sampling.latest(worker),
            stacks=stacks,
            threads=threads,
        )
        self._spool.testify(job.id, msgspec.json.encode(evidence))

    async def examine(self, worker: str, reason: str) -> None:
        """Look at a worker that hangs, keep what was seen, end it."""
        stacks, threads = await self._pool.examine(worker)
        self.testify(worker, reason, stacks, threads)
        if self._core.staff.policy.stall_abort:
            self._pool.abort(worker)
        else:
            self._pool.kill(worker)
