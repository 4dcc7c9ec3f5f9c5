"""Operations by which jobs move from state to state after they were accepted.

Each is a plain function on the store, called on the ledger's thread inside a transaction. A move
that is not allowed, or comes late under an old token, changes nothing and says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from sttd.core.jobs import Job, JobState
from sttd.supervisor.ledger import rows
from sttd.supervisor.ledger.errors import LedgerError
from sttd.supervisor.ledger.names import reserve_another
from sttd.supervisor.ledger.store import Store
from sttd.supervisor.records import Attempt, printable

_SECOND = 1_000_000_000
_WOKEN_AT_ONCE = 1000  # when a service is back, everything may be due: in small transactions
_ATTEMPTS_KEPT = 128  # of each job; more than may ever count (core/retry.py)


def claim(store: Store, limit: int, *, probe: bool = False) -> list[Job]:
    """Queued -> running: the most urgent, then the oldest, each under a new token.

    `probe`: the least tried of those at the head, so that a recording that the service dies of
    is not the one it is tried with for ever.
    """
    now = store.now_wall_ns()
    if probe:
        found = store.rows("claim_probe", limit=limit, now=now)
    else:
        found = store.rows("claim", limit=limit, now=now)
    found.sort(key=lambda row: (-row[0], row[1]))  # RETURNING keeps no order
    return [rows.claimed(row) for row in found]


def rename_output(store: Store, job: str) -> str:
    """Reserve another output name for a running job; the new name.

    Raises:
        LedgerError: the job is not running.
    """
    row = store.row("out_name", job=job)
    if row is None:
        raise LedgerError(f"{store.path}: job {job} is not running; its outputs keep their name")
    name = reserve_another(store, row[0], store.now_wall_ns())
    store.run("rename_output", job=job, name=name)
    return os.fsdecode(name)


def succeed(
    store: Store,
    job: str,
    token: str,
    *,
    outputs: Sequence[str],
    duration_s: float | None,
    sha256: str | None,
    segments: int,
) -> bool:
    """Running -> succeeded under that token."""
    return (
        store.run(
            "succeed",
            job=job,
            token=token,
            outputs=rows.paths(outputs),
            duration_s=duration_s,
            sha256=sha256,
            segments=segments,
            now=store.now_wall_ns(),
        )
        == 1
    )


def requeue(
    store: Store,
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
    """Running -> queued, or deferred for `delay_s`, under that token."""
    moved = (
        store.run(
            "requeue",
            job=job,
            token=token,
            delay_ns=max(0, round(delay_s * _SECOND)),
            failures=failures,
            crashes=crashes,
            segments=segments,
            interrupted=interrupted,
            boottime=store.now_boottime_ns(),
            now=store.now_wall_ns(),
        )
        == 1
    )
    if moved:
        _add_attempt(store, job, attempt)
    return moved


def fail(
    store: Store, job: str, token: str | None, *, code: str, message: str, attempt: Attempt | None
) -> bool:
    """Running -> failed under that token; without one, claiming or queued -> failed."""
    now = store.now_wall_ns()
    why = {"code": code, "message": printable(message)}
    if token is None:
        # what is refused while it is claimed was ours for a moment: claiming -> queued -> failed
        store.run("accept", job=job, now=now)
        moved = store.run("fail_queued", job=job, now=now, **why) == 1
    else:
        moved = store.run("fail_running", job=job, token=token, now=now, **why) == 1
    if moved:
        _add_attempt(store, job, attempt)
    return moved


def cancel(store: Store, job: str, token: str | None) -> JobState | None:
    """queued, deferred or (under that token) running -> cancelled; None: it could not."""
    moved = store.run("cancel", job=job, token=token, now=store.now_wall_ns())
    return JobState.CANCELLED if moved else None


def retry(store: Store, job: str) -> bool:
    """failed, cancelled -> queued, as if new but for the number of starts."""
    return store.run("retry", job=job, now=store.now_wall_ns()) == 1


def disposed(store: Store, job: str, original: str | None) -> None:
    """The original of a finished job has left the spool for `original` (None: deleted)."""
    where = None if original is None else rows.paths([original])
    store.run("disposed", job=job, original=where)


def wake(store: Store) -> tuple[int, float | None]:
    """Deferred -> queued where the time has come; how many, and seconds until the next.

    The seconds are 0.0 when more are due than one transaction should hold.
    """
    boottime = store.now_boottime_ns()
    woken = store.run("wake", boottime=boottime, limit=_WOKEN_AT_ONCE, now=store.now_wall_ns())
    following = store.row("next_wake")
    if following is None:
        return woken, None
    return woken, max(0.0, (following[0] - boottime) / _SECOND)


def interrupted(store: Store) -> int:
    """Running -> queued, at the start of a daemon that finds them so; how many."""
    return store.run("interrupted", now=store.now_wall_ns())


def _add_attempt(store: Store, job: str, attempt: Attempt | None) -> None:
    if attempt is None:
        return
    store.run(
        "add_attempt",
        job=job,
        attempt=attempt.attempt,
        worker=attempt.worker,
        code=attempt.code,
        message=printable(attempt.message),
        at_ns=attempt.at_ns or store.now_wall_ns(),  # the core, which has no clock, says 0
        segments=attempt.segments,
        duration_s=attempt.duration_s,
    )
    store.run("forget_attempts", job=job, keep=_ATTEMPTS_KEPT)
