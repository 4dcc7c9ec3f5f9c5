"""The client for asyncio: the methods of `Client`, to be awaited. What they do is shared with it.

async with AsyncClient() as sttd:
    job = await sttd.submit("meeting.wav")
    async for segment in sttd.segments(job):
        print(segment.text)
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, TypeVar

from sttd.client import flows, hearing, submitting, transfer
from sttd.client.api import WATCH_S
from sttd.client.async_connection import AsyncConnection
from sttd.client.async_following import AsyncFollowing
from sttd.client.connection import Curve, found
from sttd.client.flows import JobRef, Watch
from sttd.client.submitting import Recording
from sttd.client.talk import RESTART_S, unexpected
from sttd.client.transfer import Progress
from sttd.transcripts import Segment
from sttd.wire import replies, requests, views
from sttd.wire.lives import LifeView, SettingView, WhyView
from sttd.wire.memory import CurvesView, MemoryView
from sttd.wire.replies import Reply
from sttd.wire.requests import Request

R = TypeVar("R", bound=Reply)


class AsyncClient:
    """A running sttd, seen from a program beside it; for any number of tasks of one event loop.

    Every method raises DaemonUnavailable when nobody answers, and Refused when the daemon says
    no. A daemon that restarts in between is found again.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        curve: Curve | None = None,
        patience_s: float | None = None,
        restart_s: float = RESTART_S,
    ) -> None:
        """Nothing is sent yet. Without an `endpoint`, `$STTD_SOCKET` or DEFAULT_ENDPOINT is meant.

        `patience_s` is how long a silent daemon is waited for (None: 2 s, and 1.3 for the first
        answer), `restart_s` one that hung up and may be starting again.
        """
        self._line = AsyncConnection(
            found(endpoint), curve=curve, patience_s=patience_s, restart_s=restart_s
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._line.close()

    # -- submissions ----------------------------------------------------------------------------
    async def submit(
        self,
        recording: Recording,
        *,
        name: str | None = None,
        languages: Sequence[str] = (),
        priority: int | None = None,
        key: str | None = None,
        options: Mapping[str, object] | None = None,
        progress: Progress | None = None,
    ) -> views.SubmittedView:
        """Hand over a recording: a path, bytes, or an open binary file. Returns once it is safe.

        `options` are a sidecar's, as docs/protocol.md has them. The same `key` gives the same job.
        `name` is needed where the recording has none. `progress` hears (bytes sent, bytes in all).
        """
        flow = submitting.submit(
            recording,
            near=self._line.endpoint.startswith("ipc:"),
            name=name,
            options=submitting.wishes(options, tuple(languages)),
            priority=priority,
            key=key,
            progress=progress,
        )
        return await self._line.run(flow)

    async def submit_url(
        self,
        url: str,
        *,
        languages: Sequence[str] = (),
        priority: int | None = None,
        key: str | None = None,
        options: Mapping[str, object] | None = None,
    ) -> views.SubmittedView:
        """Have the daemon fetch a recording; refused with `disabled` unless it is configured."""
        wishes = submitting.wishes(options, tuple(languages))
        return await self._line.run(
            submitting.submit_url(url, options=wishes, priority=priority, key=key)
        )

    # -- jobs -----------------------------------------------------------------------------------
    async def jobs(
        self,
        *,
        state: views.JobStateName | None = None,
        limit: int | None = 50,
        order: Literal["newest", "oldest"] = "newest",
        behind: JobRef | None = None,
        since: str | None = None,
        until: str | None = None,
        name: str | None = None,
        kind: views.SourceKind | None = None,
        key: str | None = None,
    ) -> tuple[views.JobView, ...]:
        """Jobs that fit, the newest first unless the oldest are asked for; at most `limit`.

        `behind`: go on behind that job. `since` (included) and `until` are UTC, of `created`;
        `name` is a part of the recording's name, `key` a whole idempotency key.
        """
        wish = flows.selection(
            state=state,
            order=order,
            behind=behind,
            since=since,
            until=until,
            name=name,
            kind=kind,
            key=key,
        )
        return tuple([job async for job in self._line.stream(flows.jobs(wish, limit))])

    async def show(self, job: str) -> views.JobDetailView:
        """One job with its timeline."""
        return (await self._ask(requests.Show(job=job), replies.Detail)).job

    async def wait(
        self,
        jobs: JobRef | Iterable[JobRef],
        timeout: float | None = None,  # noqa: ASYNC109 - as in Client: its end tells how they are
        *,
        watch: Watch | None = None,
        every: float = WATCH_S,
    ) -> tuple[views.JobView, ...]:
        """The jobs once all are final, in the order given; raises WaitTimeout after `timeout` s.

        `watch` is told how they stand, `every` so many seconds.
        """
        return await self._line.run(flows.wait(flows.listed(jobs), timeout, watch, every))

    def segments(
        self,
        job: JobRef,
        timeout: float | None = None,
        *,
        on_restart: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Segment, None]:
        """What a job says, as it says it, each segment once; ends when the job has succeeded.

        A job that is over gives its transcript. Raises JobFailed, and WaitTimeout after `timeout`
        s. Where a job is begun anew, what was given is void: `on_restart` is called, or without it
        StreamRestarted raised.
        """
        return self._line.stream(hearing.segments(job, timeout, on_restart))

    async def cancel(self, job: str) -> views.JobView:
        """Cancel a job that waits or runs."""
        return (await self._ask(requests.Cancel(job=job), replies.OneJob)).job

    async def retry(self, job: str) -> views.JobView:
        """Put a failed or cancelled job back into the queue."""
        return (await self._ask(requests.Retry(job=job), replies.OneJob)).job

    async def retry_all_failed(self) -> int:
        """Put every failed job back into the queue; how many there were."""
        return (await self._ask(requests.Retry(), replies.Retried)).retried.retried

    async def fetch(self, job: str, output: str) -> bytes:
        """One of a finished job's `outputs`, whole."""
        return await self._line.run(transfer.fetch(job, output))

    async def download(self, job: views.JobView, folder: str | os.PathLike[str]) -> list[Path]:
        """Copy a finished job's outputs beneath `folder`; where they are now."""
        return await self._line.run(transfer.download(job, folder))

    # -- the daemon -----------------------------------------------------------------------------
    async def status(self) -> views.StatusView:
        """The whole picture."""
        return (await self._ask(requests.Status(), replies.Status)).status

    async def workers(self) -> tuple[views.WorkerView, ...]:
        """The workers there are."""
        return (await self._ask(requests.Workers(), replies.Workers)).workers.workers

    async def lives(self, *, worker: str | None = None, limit: int = 50) -> tuple[LifeView, ...]:
        """How workers' lives ended, the latest first."""
        return (
            await self._ask(requests.Lives(worker=worker, limit=limit), replies.Lives)
        ).lives.lives

    async def why(self, about: str) -> WhyView:
        """What became of a worker or a job, and why."""
        return (await self._ask(requests.Why(about=about), replies.Explained)).why

    async def memory(self, *, deep: bool = False) -> MemoryView:
        """The workers' memory; `deep`: idle ones count their objects by type, too."""
        return (await self._ask(requests.Memory(deep=deep), replies.Memory)).memory

    async def memory_history(self) -> CurvesView:
        """The workers' RSS over the last hours, thinned."""
        return (await self._ask(requests.MemoryHistory(), replies.Curves)).history

    async def config(self) -> tuple[SettingView, ...]:
        """Every configuration key in force, and where its value comes from."""
        return (await self._ask(requests.Config(), replies.Config)).config.settings

    async def version(self) -> views.VersionView:
        """The daemon's version, and where it publishes events."""
        return (await self._ask(requests.Version(), replies.Version)).version

    async def drain(self) -> views.DrainView:
        """Start no more jobs; returns at once."""
        return (await self._ask(requests.Drain(), replies.Drained)).drain

    async def wait_drained(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - likewise
    ) -> views.DrainView:
        """Until nothing runs any more, or someone resumed; raises WaitTimeout."""
        return await self._line.run(flows.wait_drained(timeout))

    async def resume(self) -> views.DrainView:
        """Undo `drain`."""
        return (await self._ask(requests.Resume(), replies.Drained)).drain

    async def recycle(self, worker: str | None = None) -> tuple[str, ...]:
        """Replace a worker, or each of them, after its job; the ids of those told."""
        return (await self._ask(requests.Recycle(worker=worker), replies.Recycling)).recycle.workers

    async def scale(self, workers: int) -> views.ScaleView:
        """Have this many workers until the next start."""
        return (await self._ask(requests.Scale(workers=workers), replies.Scaled)).scale

    async def reload(self) -> views.ReloadView:
        """Have the configuration read again."""
        return (await self._ask(requests.Reload(), replies.Reloaded)).reload

    async def events(
        self,
        *,
        since: str | None = None,
        events: Sequence[str] = (),
        job: str | None = None,
        worker: str | None = None,
        limit: int = 100,
    ) -> tuple[views.EventView, ...]:
        """What happened, oldest first: the last `limit`, or the first `limit` since then (UTC)."""
        request = requests.Events(
            since=since, events=tuple(events), job=job, worker=worker, limit=limit
        )
        return (await self._ask(request, replies.Events)).events.events

    def follow(self, events: Sequence[str] = ()) -> AsyncFollowing:
        """Events as they happen, those named (or of the families named): an endless iterator.

        Subscribed when this returns. What happens while the daemon is away is missed. Close it
        when done; closing the client closes it, too.
        """
        return AsyncFollowing(self._line, tuple(events))

    async def _ask(self, request: Request, kind: type[R]) -> R:
        reply, _ = await self._line.call(request)
        if not isinstance(reply, kind):
            raise unexpected(request, reply)
        return reply
