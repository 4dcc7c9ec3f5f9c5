"""What workers say on the wire, as events for the core; what the core says of lives, as rows.

Pure shaping between two vocabularies that must not know each other.
"""

from __future__ import annotations

import time

import msgspec

from sttd.core import commands as do
from sttd.core import events as on
from sttd.core.retry import FailureKind
from sttd.supervisor.records import WorkerLife
from sttd.wire import messages as say


def progressed(worker: str, news: say.Progress) -> on.Progressed:
    """A worker advanced in its recording."""
    return on.Progressed(
        worker=worker,
        job=news.job,
        attempt=news.attempt,
        token=news.token,
        position_s=news.position_s,
        segments=news.segments,
        duration_s=news.duration_s,
        start_s=news.start_s,
        writing=news.writing,
    )


def done(worker: str, news: say.Done) -> on.JobDone:
    """A worker has written every output."""
    return on.JobDone(
        worker=worker,
        job=news.job,
        attempt=news.attempt,
        token=news.token,
        duration_s=news.duration_s,
        segments=news.segments,
        rss_before=news.rss_before,
        rss_after=news.rss_after,
    )


def failed(worker: str, news: say.Failed) -> on.JobFailed:
    """A worker ended its job without a transcript."""
    return on.JobFailed(
        worker=worker,
        job=news.job,
        attempt=news.attempt,
        token=news.token,
        kind=FailureKind(news.kind),
        code=news.code,
        message=news.message,
        retry_after_s=news.retry_after_s,
        segments=news.segments,
        duration_s=news.duration_s,
        rss_before=news.rss_before,
        rss_after=news.rss_after,
        leaving=news.leaving,
    )


def life(how: do.Bury) -> WorkerLife:
    """How a worker ended, for the ledger."""
    now = time.time_ns()
    return WorkerLife(
        **msgspec.structs.asdict(how), started_ns=now - int(how.age_s * 1e9), ended_ns=now
    )
