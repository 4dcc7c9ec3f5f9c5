"""Pages of jobs: filtered, newest or oldest first, over a million rows. Changes nothing.

What was never accepted is no job to anybody, and is listed only where it is asked for.
Every page is found by an index and its end remembered by an id, never by an offset. What no index
serves (a part of a name, the kind) is looked for among WINDOW rows at a time: the page may then be
short or empty and still have a `next`, and the ledger's other work is never held up for long.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from sttd.core.jobs import FINAL, JobState
from sttd.supervisor.ledger import rows
from sttd.supervisor.ledger.store import Store, Value
from sttd.supervisor.records import JobRow, Selection

WINDOW = 20_000  # rows, some 10 ms
SLACK_MS = 600_000  # an id is made before its row is; by how much, a clock that was set decides
_NEVER_OURS = frozenset({JobState.CLAIMING, JobState.WITHDRAWN})  # nor yet
_NEWEST = (1 << 63) - 1  # no seq reaches it


class Page(NamedTuple):
    """Jobs in the order asked for, and the id behind which the listing goes on; None: its end."""

    jobs: list[JobRow]
    next: str | None


def page(store: Store, wish: Selection) -> Page:
    """One page of the jobs that fit."""
    if wish.key is not None:
        row = store.row("job_by_key", key=wish.key)
        known = [] if row is None else [rows.job_row(row)]
        return Page([job for job in known if _fits(job, wish)], None)
    after, before = _bounds(store, wish)
    low, high = _window(wish, after, before)
    found = store.rows(_statement(wish), **_filters(wish), after=low, before=high)
    jobs = [rows.job_row(row) for row in found]
    if len(jobs) == wish.limit:
        return Page(jobs, jobs[-1].id)
    if wish.oldest and high < before:
        return Page(jobs, _edge(store, "id_before", high))
    if not wish.oldest and low > after:
        return Page(jobs, _edge(store, "id_after", low))
    return Page(jobs, None)


def _statement(wish: Selection) -> str:
    name = "jobs"
    if wish.state is not None:
        name = "jobs_ended" if wish.state in FINAL else "jobs_open"
    return f"{name}_up" if wish.oldest else name


def _filters(wish: Selection) -> dict[str, Value]:
    filters: dict[str, Value] = {
        "since": 0 if wish.since_ns is None else wish.since_ns,
        "until": _NEWEST if wish.until_ns is None else wish.until_ns,
        "kind": wish.kind,
        "name": None if wish.name is None else wish.name.encode(),
        "limit": wish.limit,
    }
    if wish.state is None:
        filters["all"] = wish.strangers
    else:
        filters["state"] = wish.state.value
    return filters


def _bounds(store: Store, wish: Selection) -> tuple[int, int]:
    """The seqs between which, both excluded, all jobs lie that can fit."""
    newest = store.row("last_seq")
    after, before = 0, 1 + (0 if newest is None else newest[0])
    if wish.before is not None:
        before = min(before, _seq(store, "page_start", wish.before, _NEWEST))
    if wish.after is not None:
        after = _seq(store, "page_end", wish.after, 0)
    if wish.since_ns is not None:
        first = _seq(store, "page_start", _id_of(wish.since_ns // 10**6 - SLACK_MS), _NEWEST)
        after = max(after, first - 1)
    if wish.until_ns is not None:
        until_ms = -(-wish.until_ns // 10**6)
        before = min(before, _seq(store, "page_start", _id_of(until_ms), _NEWEST))
    return after, before


def _window(wish: Selection, after: int, before: int) -> tuple[int, int]:
    """The part of the bounds that is looked through now."""
    if wish.name is None and wish.kind is None:
        return after, before
    if wish.oldest:
        return after, min(before, after + WINDOW + 1)
    return max(after, before - WINDOW - 1), before


def _seq(store: Store, name: str, job: str, default: int) -> int:
    row = store.row(name, id=job)
    return default if row is None else int(row[0])


def _edge(store: Store, name: str, seq: int) -> str | None:
    row = store.row(name, seq=seq)
    return None if row is None else str(row[0])


def _id_of(ms: int) -> str:
    """The least UUIDv7 of that millisecond since 1970 (RFC 9562, 5.7: 48 bits of it lead)."""
    digits = f"{min(max(ms, 0), (1 << 48) - 1):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def _fits(job: JobRow, wish: Selection) -> bool:
    return (
        wish.state in (None, job.state)
        and (wish.state or wish.strangers or job.state not in _NEVER_OURS)
        and wish.kind in (None, job.kind)
        and (wish.name is None or wish.name.encode() in os.fsencode(job.name))
        and (wish.since_ns is None or job.created_ns >= wish.since_ns)
        and (wish.until_ns is None or job.created_ns < wish.until_ns)
        and wish.before is None
        and wish.after is None
    )
