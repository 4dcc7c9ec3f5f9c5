"""What happens when a job comes to rest: outputs made visible, the original put away, in order.

Composes outbox, spool and ledger; every step may be repeated after a crash. It does not decide
what becomes of a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sttd.config import Settings
from sttd.core.jobs import PUT_ASIDE, Job, JobState
from sttd.supervisor.batching import Batching
from sttd.supervisor.ledger import Ledger
from sttd.supervisor.locks import Locks
from sttd.supervisor.outbox import NameTakenError, Outbox, Wish
from sttd.supervisor.records import Attempt, JobRow
from sttd.supervisor.spool import Spool
from sttd.wire.codes import Code
from sttd.wire.messages import Done

MOST_NAMES = 100  # strangers' files in the way of an output before we give up


class Settling:
    """Publishes and disposes. One for the daemon's life."""

    def __init__(self, settings: Settings, ledger: Ledger, outbox: Outbox, spool: Spool) -> None:
        self.settings = settings
        self._ledger = ledger
        self._outbox = outbox
        self._spool = spool
        self._publications = Batching(self._publish_all, self._more_coming)
        self._originals = Batching(self._dispose_successes, self._more_coming)
        self._locks = Locks()  # by job
        # whether other jobs may be about to come to rest: whoever gives them out knows
        self.more_coming: Callable[[], bool] = lambda: True

    async def publish(self, job: Job, done: Done) -> list[str] | None:
        """Make the outputs visible; None when the attempt holds the job no more.

        Raises OSError, StorageFull and StagingError; nothing is then visible.
        """
        out_name = job.out_name
        for _ in range(MOST_NAMES):
            try:
                outputs = await self._publications.ask((job, out_name, done))
            except NameTakenError:
                out_name = await self._ledger.rename_output(job.id)
            else:
                if outputs is None:
                    await self.drop_staging(job)
                return outputs
        raise FileExistsError(f"no free name for {job.out_name} in the outbox")

    async def record(self, job: Job, done: Done, outputs: list[str]) -> bool:
        """The outputs are visible: let the ledger say so."""
        return await self._ledger.succeed(
            job.id,
            job.token,
            outputs=outputs,
            duration_s=done.duration_s,
            sha256=done.sha256,
            segments=job.segments + done.segments,
        )

    async def keep(self, job: str, name: str) -> None:
        """Put the original of a job that has succeeded away, and empty its spool folder."""
        async with self.alone(job):
            original = await self._originals.ask((self._spool.folder(job), name))
            await self._ledger.disposed(job, original)

    def alone(self, job: str) -> asyncio.Lock:
        """To be held by whoever lets a job come to rest, or takes it up again from there.

        From the ledger's row to the last event: so nobody moves what somebody else is moving, and
        what is told is told in order.
        """
        return self._locks.of(job)

    async def put_aside(self, job: str) -> None:
        """Put the original of a failed or cancelled job into failed/, and empty its spool folder.

        Done once: nothing is done for a job that is put aside, or queued again. Held: `alone`.
        """
        row = await self._ledger.job(job)
        if row is None or row.disposed or row.state not in PUT_ASIDE:
            return
        attempts = await self._ledger.attempts(job)
        original = await asyncio.to_thread(self._set_aside, row, attempts)
        await self._ledger.disposed(job, original)

    async def dispose(self, job: str) -> None:
        """The same for a job at rest in any way; for those that no worker has or had."""
        row = await self._ledger.job(job)
        if row is None or row.disposed or row.state is not JobState.SUCCEEDED:
            async with self.alone(job):
                await self.put_aside(job)
            return
        [original] = await self._dispose_successes([(self._spool.folder(job), row.name)])
        if isinstance(original, Exception):
            raise original
        await self._ledger.disposed(job, original)

    async def retry(self, job: str) -> bool:
        """Queue a failed or cancelled job again, its original back in the spool.

        False when the original is gone, or the job not (or no more) at rest in that way.
        """
        async with self.alone(job):
            row = await self._ledger.job(job)
            if row is None or row.state not in PUT_ASIDE or not await self._reclaim(row):
                return False
            if not await self._ledger.retry(job):
                return False
            await asyncio.to_thread(self._spool.make_known, row)
        return True

    async def drop_staging(self, job: Job) -> None:
        """Remove what an attempt left in outbox/.tmp."""
        await asyncio.to_thread(_remove, str(self._staging(job)))

    def evidence(self, job: str) -> list[object]:
        """What was found before workers of this job were ended: in the spool, later in logs/."""
        return _evidence(self._spool.evidence(job)) or _evidence(self._spool.kept_evidence(job))

    def journal(self, job: str) -> Path:
        """Where what the job has said so far is, while it is in the spool."""
        return self._spool.journal(job)

    def objection(self, row: JobRow) -> str:
        """Why this job cannot be retried: what refused it would refuse it again. "" if nothing."""
        if row.error_code == Code.BAD_SIDECAR:
            return f"{row.error_message}: drop it again with mended options"
        limit = self.settings.limits.max_file_size
        if row.error_code == Code.TOO_LARGE and row.size > limit:
            return f"{row.size} bytes are still more than limits.max_file_size"
        return ""

    async def _reclaim(self, row: JobRow) -> bool:
        """Bring a failed or cancelled job's original back into the spool; False if it is gone."""
        if row.original is None:
            return self._spool.audio(row.id).exists()
        return await asyncio.to_thread(self._outbox.reclaim, row.original, row.id, row.signature)

    async def _publish_all(
        self, wishes: Sequence[tuple[Job, str, Done]]
    ) -> list[list[str] | Exception | None]:
        """Paths beneath the outbox; None for an attempt that holds its job no more."""
        tokens = await self._ledger.tokens([job.id for job, _, _ in wishes])
        held = [wish for wish in wishes if tokens.get(wish[0].id) == wish[0].token]
        published = await asyncio.to_thread(
            self._outbox.publish_all,
            [Wish(self._staging(job), name, done.outputs) for job, name, done in held],
        )
        found = {wish[0].id: one for wish, one in zip(held, published, strict=True)}
        return [found.get(job.id) for job, _, _ in wishes]

    async def _dispose_successes(
        self, jobs: Sequence[tuple[Path, str]]
    ) -> list[str | Exception | None]:
        keep = self.settings.outbox.originals == "keep"
        return await asyncio.to_thread(self._outbox.dispose_successes, jobs, keep=keep)

    def _more_coming(self) -> bool:
        return self.more_coming()

    def _set_aside(self, row: JobRow, attempts: list[Attempt]) -> str | None:
        report = error_json(row, attempts, self.evidence(row.id))
        return self._outbox.dispose_failure(self._spool.folder(row.id), row.name, report)

    def _staging(self, job: Job) -> str:
        return str(self.settings.outbox_dir / ".tmp" / f"{job.id}.{job.attempt}")


def error_json(row: JobRow, attempts: list[Attempt], evidence: list[object]) -> bytes:
    """The body of `<name>.error.json`; `evidence` is there for attempts that ended badly."""
    more = {"evidence": evidence} if evidence else {}
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "job_id": row.id,
                "code": row.error_code or row.state.value,
                "message": row.error_message or f"the job was {row.state.value}",
                "attempts": [
                    {
                        "attempt": a.attempt,
                        "worker": a.worker,
                        "code": a.code,
                        "message": a.message,
                        "segments": a.segments,
                    }
                    for a in attempts
                ],
                **more,
            }
        ),
        indent=1,
    )


def _evidence(path: Path) -> list[object]:
    """The lines of a job's evidence; a torn one is left out."""
    found: list[object] = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                found.append(msgspec.json.decode(line))
    return found


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
