"""Turns rows of SQLite into the daemon's records and back; values only, no statement.

File names go in and out as bytes (`os.fsencode`), lists of them separated by NUL, which no file
name contains.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from sttd.core.jobs import Job, JobState
from sttd.supervisor.ledger.store import Row, Value
from sttd.supervisor.records import (
    Attempt,
    EventRow,
    JobRow,
    NewJob,
    Signature,
    WorkerLife,
    printable,
)

_SIGNATURE = msgspec.json.Decoder(Signature)
_FIELDS = msgspec.json.Decoder(dict[str, Any])


def new_job(job: NewJob) -> dict[str, Value]:
    """What of a new job is stored as it came."""
    return {
        "id": job.id,
        "kind": job.kind,
        "name": os.fsencode(job.name),
        "signature": _signature(job.signature),
        "sidecar": None if job.sidecar is None else _signature(job.sidecar),
        "options": job.options,
        "priority": job.priority,
        "key": job.key,
        "uid": job.uid,
        "size": job.signature.size,
    }


def inserted(
    job: NewJob, out_name: str, state: JobState, attempt: int, segments: int, now_ns: int
) -> JobRow:
    """What `job_row` would read of a job just inserted; asking SQLite costs ten times as much."""
    return JobRow(
        id=job.id,
        kind=job.kind,
        name=job.name,
        signature=job.signature,
        sidecar=job.sidecar,
        out_name=out_name,
        options=job.options,
        priority=job.priority,
        key=job.key,
        uid=job.uid,
        state=state,
        attempt=attempt,
        failures=0,
        crashes=0,
        interrupted=0,
        segments=segments,
        token=None,
        worker=None,
        size=job.signature.size,
        sha256=None,
        duration_s=None,
        progress_s=0.0,
        outputs=(),
        original=None,
        disposed=False,
        error_code=None,
        error_message=None,
        created_ns=now_ns,
        started_ns=None,
        finished_ns=None,
    )


def job_row(row: Row) -> JobRow:
    """A row of the view `job_row`, column by column."""
    (_seq, job, kind, name, signature, sidecar, out_name, options, priority, key, uid, state,
     attempt, failures, crashes, interrupted, segments, token, worker, size, sha256, duration_s,
     progress_s, outputs, original, disposed, error_code, error_message, created_ns, started_ns,
     finished_ns) = row  # fmt: skip
    return JobRow(
        id=job,
        kind=kind,
        name=os.fsdecode(name),
        signature=_SIGNATURE.decode(signature),
        sidecar=None if sidecar is None else _SIGNATURE.decode(sidecar),
        out_name="" if out_name is None else os.fsdecode(out_name),
        options=options,
        priority=priority,
        key=key,
        uid=uid,
        state=JobState(state),
        attempt=attempt,
        failures=failures,
        crashes=crashes,
        interrupted=interrupted,
        segments=segments,
        token=token,
        worker=worker,
        size=size,
        sha256=sha256,
        duration_s=duration_s,
        progress_s=progress_s,
        outputs=tuple(os.fsdecode(path) for path in outputs.split(b"\0")) if outputs else (),
        original=None if original is None else os.fsdecode(original),
        disposed=bool(disposed),
        error_code=error_code,
        error_message=error_message,
        created_ns=created_ns,
        started_ns=started_ns,
        finished_ns=finished_ns,
    )


def claimed(row: Row) -> Job:
    """What the statement `claim` returns."""
    (_priority, _seq, job, name, out_name, token, attempt, failures, crashes, segments, size,
     duration_s, options) = row  # fmt: skip
    return Job(
        id=job,
        name=printable(os.fsdecode(name)),
        out_name=os.fsdecode(out_name),
        token=token,
        attempt=attempt,
        failures=failures,
        crashes=crashes,
        segments=segments,
        size=size,
        duration_s=duration_s,
        priority=_priority,
        options=options,
        file_name=os.fsdecode(name),
    )


def paths(outputs: Sequence[str]) -> bytes:
    """Several file names as one value."""
    return b"\0".join(os.fsencode(path) for path in outputs)


def ids(jobs: Sequence[str]) -> str:
    """Several ids as one value, for json_each()."""
    return msgspec.json.encode(list(jobs)).decode()


def attempt(row: Row) -> Attempt:
    """A row of the query `attempts`."""
    number, worker, code, message, at_ns, segments, duration_s = row
    return Attempt(
        attempt=number,
        worker=worker,
        code=code,
        message=message,
        at_ns=at_ns,
        segments=segments,
        duration_s=duration_s,
    )


def event(row: Row) -> EventRow:
    """A row of the queries `first_events_…` and `last_events_…`."""
    at_ns, name, job, worker, fields = row
    return EventRow(at_ns=at_ns, name=name, job=job, worker=worker, fields_json=fields)


def told(row: Row) -> dict[str, Any]:
    """An event as people and scripts read it: timestamp, event, job, worker, and its fields."""
    at_ns, name, job, worker, fields = row
    record: dict[str, Any] = {"timestamp": timestamp(at_ns), "event": name, "job": job}
    if worker is not None:
        record["worker"] = worker
    return record | _FIELDS.decode(fields)


def life(row: Row) -> WorkerLife:
    """A row of the queries `lives` and `lives_of`; the columns stand in the struct's order."""
    return WorkerLife(**dict(zip(WorkerLife.__struct_fields__, row, strict=True)))


def timestamp(at_ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ns // 1_000_000 % 1000:03d}Z"


def _signature(signature: Signature) -> str:
    return msgspec.json.encode(signature).decode()
