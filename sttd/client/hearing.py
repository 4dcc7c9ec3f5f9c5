"""What a job says, as it says it, as a flow: while it runs from its journal, then its transcript.

Nothing is given twice and nothing is left out, however often the job is tried again and the daemon
restarted. Where the job begins anew, what was given is void, and that is said before anything else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from sttd.client import transfer
from sttd.client.errors import JobFailed, StreamRestarted, SttdError, WaitTimeout
from sttd.client.flows import Deadline, Flow, Give, JobRef, ask_held, id_of
from sttd.transcripts import Segment, Transcript
from sttd.wire import replies, requests, views

Restarted = Callable[[], None]
_Mark = tuple[str | None, str | None, str]


def segments(
    job: JobRef, timeout_s: float | None, on_restart: Restarted | None
) -> Flow[views.JobView]:
    """Give each segment once; the job, once it has succeeded.

    Raises JobFailed, WaitTimeout, and StreamRestarted when nobody listens to `on_restart`.
    """
    deadline = Deadline(timeout_s)
    heard = _Heard(id_of(job), on_restart)
    cursor = ""
    while True:
        left = deadline.left_s()
        request = requests.Segments(job=heard.job, cursor=cursor, timeout_s=left)
        reply = yield from ask_held(request, replies.Segments, left)
        if reply is not None:
            found = reply.segments
            cursor = found.cursor
            if found.restarted:
                heard.restart()
            for segment in found.segments:
                heard.note(segment)
                yield Give(segment)
            if found.job.state == "succeeded":
                for segment in heard.rest((yield from _transcript(found.job))):
                    yield Give(segment)
                return found.job
            if found.job.state in views.FINAL_STATES and not found.segments:
                raise JobFailed(found.job)
        if deadline.over():
            known = () if reply is None else (reply.segments.job,)
            raise WaitTimeout(f"job {heard.job} is not finished", known)


class _Heard:
    """What was given so far: how often each text of each speaker."""

    def __init__(self, job: str, on_restart: Restarted | None) -> None:
        self.job = job
        self._on_restart = on_restart
        self._given: Counter[_Mark] = Counter()

    def note(self, segment: Segment) -> None:
        """It is about to be given."""
        self._given[_mark(segment)] += 1

    def restart(self) -> None:
        """What was given is void."""
        if not self._given:
            return
        self._given.clear()
        if self._on_restart is None:
            raise StreamRestarted(self.job)
        self._on_restart()

    def rest(self, whole: tuple[Segment, ...]) -> list[Segment]:
        """What of the transcript was not given; all of it where that contradicts what was."""
        left = self._given.copy()
        missing = []
        for segment in whole:
            mark = _mark(segment)
            if left[mark]:
                left[mark] -= 1
            else:
                missing.append(segment)
        if not left.total():
            return missing
        self.restart()
        return list(whole)


def _mark(segment: Segment) -> _Mark:
    """What of a segment is the same in the journal and in the transcript, which cuts its times."""
    return segment.speaker, segment.language, segment.text


def _transcript(job: views.JobView) -> Flow[tuple[Segment, ...]]:
    if not job.outputs:
        raise SttdError(f"job {job.job} has succeeded and has no outputs")
    manifest = job.outputs[-1]
    data = yield from transfer.fetch(job.job, manifest)
    try:
        return msgspec.json.decode(data, type=Transcript).segments
    except msgspec.DecodeError as error:
        raise SttdError(f"{manifest} is no transcript: {error}") from error
