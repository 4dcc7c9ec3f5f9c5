"""What takes more than one request, as generators without I/O: shared by both clients.

A flow yields steps (ask, pause, do some work on files, give something to the caller) and is sent
what came of each; a connection's `run` and `stream` carry them out, waiting or awaiting. What goes
wrong with a step is raised where it was yielded. A flow must not yield while it is being closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from sttd.client.errors import Refused, WaitTimeout
from sttd.client.talk import unexpected
from sttd.wire import replies, requests, views
from sttd.wire.codes import Code
from sttd.wire.replies import Reply
from sttd.wire.requests import Request

HOLD_S = 30.0  # one request that waits is held by the daemon for so long
BUSY_PAUSE_S = 0.25  # before asking again while too many others wait

_CURSOR = {"newest": "before", "oldest": "after"}  # where a listing goes on


class Ask(msgspec.Struct, frozen=True):
    """Send a request; the answer is the reply and its binary frame. Raises Refused."""

    request: Request
    data: bytes | None = None


class Pause(msgspec.Struct, frozen=True):
    """Let so many seconds pass."""

    seconds: float


class Do(msgspec.Struct, frozen=True):
    """Work on files that may block; the answer is what it returns."""

    work: Callable[[], Any]


class Give(msgspec.Struct, frozen=True):
    """Hand something to the caller of a stream."""

    item: Any


Step = Ask | Pause | Do | Give
T = TypeVar("T")
R = TypeVar("R", bound=Reply)
Flow = Generator[Step, Any, T]
Watch = Callable[[Sequence[views.JobView]], None]
JobRef = str | views.JobView  # a job's id, or what is known of it


def id_of(job: JobRef) -> str:
    """A job's id."""
    return job if isinstance(job, str) else job.job


def ask(request: Request, kind: type[R]) -> Flow[R]:
    """The reply of the kind that answers this request."""
    reply, _ = yield Ask(request)
    if not isinstance(reply, kind):
        raise unexpected(request, reply)
    return reply


def ask_held(request: Request, kind: type[R], left_s: float) -> Flow[R | None]:
    """The same for a request that waits; None, after a pause, while too many others do."""
    try:
        return (yield from ask(request, kind))
    except Refused as error:
        if error.code != Code.BUSY:
            raise
    yield Pause(max(0.0, min(left_s, BUSY_PAUSE_S)))
    return None


class Deadline:
    """When somebody's patience ends; None: never."""

    def __init__(self, timeout_s: float | None) -> None:
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds for one request that waits."""
        return HOLD_S if self._end is None else max(0.0, min(HOLD_S, self._end - time.monotonic()))

    def over(self) -> bool:
        """Has it passed?"""
        return self._end is not None and time.monotonic() >= self._end


def listed(jobs: JobRef | Iterable[JobRef]) -> list[JobRef]:
    """One job or several."""
    return [jobs] if isinstance(jobs, str | views.JobView) else list(jobs)


def selection(
    *, behind: JobRef | None, order: Literal["newest", "oldest"], **fit: Any
) -> requests.Jobs:
    """The request for jobs that fit, from behind one of them in the order given."""
    there = None if behind is None else id_of(behind)
    if order == "oldest":
        return requests.Jobs(order=order, after=there, **fit)
    return requests.Jobs(order=order, before=there, **fit)


def jobs(wish: requests.Jobs, limit: int | None) -> Flow[None]:
    """Give all jobs that fit, page after page, at most `limit` (None: all there are)."""
    given = 0
    while limit is None or given < limit:
        page = requests.MAX_LISTED if limit is None else min(limit - given, requests.MAX_LISTED)
        request = msgspec.structs.replace(wish, limit=page)
        found = (yield from ask(request, replies.Jobs)).jobs
        for job in found.jobs:
            yield Give(job)
        given += len(found.jobs)
        if found.next is None:
            return
        wish = msgspec.structs.replace(wish, **{_CURSOR[wish.order]: found.next})


def wait(
    wanted: Sequence[JobRef], timeout_s: float | None, watch: Watch | None, every: float
) -> Flow[tuple[views.JobView, ...]]:
    """The jobs once all are final, in the order given. Raises WaitTimeout."""
    deadline = Deadline(timeout_s)
    done: list[views.JobView] = []
    ids = [id_of(job) for job in wanted]
    for start in range(0, len(ids), requests.MAX_LISTED):
        batch = tuple(ids[start : start + requests.MAX_LISTED])
        done += yield from _wait(batch, deadline, watch, every)
    return tuple(done)


def _wait(
    batch: tuple[str, ...], deadline: Deadline, watch: Watch | None, every: float
) -> Flow[tuple[views.JobView, ...]]:
    while True:
        left = deadline.left_s()
        request = requests.Wait(jobs=batch, timeout_s=min(left, every))
        reply = yield from ask_held(request, replies.Jobs, left)
        found = reply.jobs.jobs if reply is not None else ()
        if watch is not None and found:
            watch(found)
        unfinished = [job for job in found if job.state not in views.FINAL_STATES]
        if found and not unfinished:
            return found
        if deadline.over():
            left_over = len(unfinished) or len(batch)
            raise WaitTimeout(f"{left_over} of {len(batch)} not finished", found)


def wait_drained(timeout_s: float | None) -> Flow[views.DrainView]:
    """Until nothing runs any more, or someone resumed. Raises WaitTimeout."""
    deadline = Deadline(timeout_s)
    while True:
        left = deadline.left_s()
        request = requests.WaitDrained(timeout_s=left)
        reply = yield from ask_held(request, replies.Drained, left)
        if reply is not None and reply.drain.state != "draining":
            return reply.drain
        if deadline.over():
            drain = reply.drain if reply is not None else None
            running = "jobs may be"
            if drain is not None:
                running = "1 job is" if drain.running == 1 else f"{drain.running} jobs are"
            raise WaitTimeout(f"{running} still running", drain=drain)
