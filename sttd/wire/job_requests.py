"""The requests about jobs: to find them, to wait for them, to have what they said, to end them.

Values only, as in `requests`, which has the others and the union of all.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from sttd.wire.asking import (
    MAX_LISTED,
    Asked,
    Instant,
    JobId,
    Key,
    Limit,
    Name,
    Offset,
    WaitS,
)
from sttd.wire.views import JobStateName, SourceKind

# Part of a recording's name, printable; found anywhere in it.
NamePart = Annotated[str, Meta(min_length=1, max_length=200)]
# What a reply gave to go on from; opaque to clients.
Cursor = Annotated[str, Meta(max_length=64)]


class Jobs(Asked, frozen=True, kw_only=True, tag="jobs"):
    """The newest jobs first (`order` "oldest": the oldest), those that fit. Answer: Jobs.

    A page goes on behind the job `before` (with "oldest": `after`); the reply's `next` is what to
    name there. `since` (included) and `until` (not included) are about `created`, `name` is a part
    of the recording's name, `key` the whole idempotency key.
    """

    state: JobStateName | None = None
    limit: Limit = 50
    before: JobId | None = None
    after: JobId | None = None
    order: Literal["newest", "oldest"] = "newest"
    since: Instant | None = None
    until: Instant | None = None
    name: NamePart | None = None
    kind: SourceKind | None = None
    key: Key | None = None


class Show(Asked, frozen=True, kw_only=True, tag="show"):
    """One job with its timeline. Answer: Detail."""

    job: JobId


class Wait(Asked, frozen=True, kw_only=True, tag="wait"):
    """Answered when all of these are final, or the time is over: Jobs, in the order given."""

    jobs: Annotated[tuple[JobId, ...], Meta(min_length=1, max_length=MAX_LISTED)]
    timeout_s: WaitS = 1.0


class Segments(Asked, frozen=True, kw_only=True, tag="segments"):
    """What the job has said since `cursor` ("" at first), while it runs. Answer: Segments.

    Held until there is something new, the job is final, or the time is over.
    """

    job: JobId
    cursor: Cursor = ""
    timeout_s: WaitS = 0.0


class Cancel(Asked, frozen=True, kw_only=True, tag="cancel"):
    """Cancel a queued, deferred or running job. Answer: OneJob."""

    job: JobId


class Retry(Asked, frozen=True, kw_only=True, tag="retry"):
    """Put a failed or cancelled job back (OneJob), or with `job` None every failed (Retried)."""

    job: JobId | None = None


class Fetch(Asked, frozen=True, kw_only=True, tag="fetch"):
    """A piece of a finished job's output, at most CHUNK bytes from `offset`.

    `output` is one of the job's `outputs`, to the letter. Answer: Fetched and a binary frame.
    """

    job: JobId
    output: Name
    offset: Offset = 0
