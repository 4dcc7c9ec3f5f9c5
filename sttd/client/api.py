"""The public client: one method for each thing the daemon can be asked, typed, synchronous.

Methods build requests and hand them to the connection; what takes several is in `flows` and its
like, which `asynchronous` shares.
"""

# ruff: noqa: PLC0415 - what few calls need is imported by them: `sttctl status` must be quick
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from sttd.client.connection import Connection, Curve, found
from sttd.client.talk import RESTART_S, unexpected
from sttd.wire import replies, requests, views
from sttd.wire.lives import LifeView, SettingView, WhyView
from sttd.wire.memory import CurvesView, MemoryView
from sttd.wire.replies import Reply
from sttd.wire.requests import Request

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from sttd.client.flows import JobRef, Watch
    from sttd.client.following import Following
    from sttd.client.submitting import Recording
    from sttd.client.transfer import Progress
    from sttd.transcripts import Segment

WATCH_S = 30.0  # how often `watch` is told, unless it is asked for more often

R = TypeVar("R", bound=Reply)


class Client:
    """A running sttd, seen from a program beside it; for one thread at a time.

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
        self._line = Connection(
            found(endpoint), curve=curve, patience_s=patience_s, restart_s=restart_s
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    # -- submissions ----------------------------------------------------------------------------
    def submit(
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
        from sttd.client import submitting

        flow = submitting.submit(
            recording,
            near=self._line.endpoint.startswith("ipc:"),
            name=name,
            options=submitting.wishes(options, tuple(languages)),
            priority=priority,
            key=key,
            progress=progress,
        )
        return self._line.run(flow)

    def submit_url(
        self,
        url: str,
        *,
        languages: Sequence[str] = (),
        priority: int | None = None,
        key: str | None = None,
        options: Mapping[str, object] | None = None,
    ) -> views.SubmittedView:
        """Have the daemon fetch a recording; refused with `disabled` unless it is configured."""
        from sttd.client import submitting

        wishes = submitting.wishes(options, tuple(languages))
        return self._line.run(
            submitting.submit_url(url, options=wishes, priority=priority, key=key)
        )

    # -- jobs -----------------------------------------------------------------------------------
    def jobs(
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
        from sttd.client import flows

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
        return tuple(self._line.stream(flows.jobs(wish, limit)))

    def show(self, job: str) -> views.JobDetailView:
        """One job with its timeline."""
        return self._ask(requests.Show(job=job), replies.Detail).job

    def wait(
        self,
        jobs: JobRef | Iterable[JobRef],
        timeout: float | None = None,
        *,
        watch: Watch | None = None,
        every: float = WATCH_S,
    ) -> tuple[views.JobView, ...]:
        """The jobs once all are final, in the order given; raises WaitTimeout after `timeout` s.

        `watch` is told how they stand, `every` so many seconds.
        """
        from sttd.client import flows

        return self._line.run(flows.wait(flows.listed(jobs), timeout, watch, every))

    def segments(
        self,
        job: JobRef,
        timeout: float | None = None,
        *,
        on_restart: Callable[[], None] | None = None,
    ) -> Iterator[Segment]:
        """What a job says, as it says it, each segment once; ends when the job has succeeded.

        A job that is over gives its transcript. Raises JobFailed, and WaitTimeout after `timeout`
        s. Where a job is begun anew, what was given is void: `on_restart` is called, or without it
        StreamRestarted raised.
        """
        from sttd.client import hearing

        return self._line.stream(hearing.segments(job, timeout, on_restart))

    def cancel(self, job: str) -> views.JobView:
        """Cancel a job that waits or runs."""
        return self._ask(requests.Cancel(job=job), replies.OneJob).job

    def retry(self, job: str) -> views.JobView:
        """Put a failed or cancelled job back into the queue."""
        return self._ask(requests.Retry(job=job), replies.OneJob).job

    def retry_all_failed(self) -> int:
        """Put every failed job back into the queue; how many there were."""
        return self._ask(requests.Retry(), replies.Retried).retried.retried

    def fetch(self, job: str, output: str) -> bytes:
        """One of a finished job's `outputs`, whole."""
        from sttd.client import transfer

        return self._line.run(transfer.fetch(job, output))

    def download(self, job: views.JobView, folder: str | os.PathLike[str]) -> list[Path]:
        """Copy a finished job's outputs beneath `folder`; where they are now."""
        from sttd.client import transfer

        return self._line.run(transfer.download(job, folder))

    # -- the daemon -----------------------------------------------------------------------------
    def status(self) -> views.StatusView:
        """The whole picture."""
        return self._ask(requests.Status(), replies.Status).status

    def workers(self) -> tuple[views.WorkerView, ...]:
        """The workers there are."""
        return self._ask(requests.Workers(), replies.Workers).workers.workers

    def lives(self, *, worker: str | None = None, limit: int = 50) -> tuple[LifeView, ...]:
        """How workers' lives ended, the latest first."""
        return self._ask(requests.Lives(worker=worker, limit=limit), replies.Lives).lives.lives

    def why(self, about: str) -> WhyView:
        """What became of a worker or a job, and why."""
        return self._ask(requests.Why(about=about), replies.Explained).why

    def memory(self, *, deep: bool = False) -> MemoryView:
        """The workers' memory; `deep`: idle ones count their objects by type, too."""
        return self._ask(requests.Memory(deep=deep), replies.Memory).memory

    def memory_history(self) -> CurvesView:
        """The workers' RSS over the last hours, thinned."""
        return self._ask(requests.MemoryHistory(), replies.Curves).history

    def config(self) -> tuple[SettingView, ...]:
        """Every configuration key in force, and where its value comes from."""
        return self._ask(requests.Config(), replies.Config).config.settings

    def version(self) -> views.VersionView:
        """The daemon's version, and where it publishes events."""
        return self._ask(requests.Version(), replies.Version).version

    def drain(self) -> views.DrainView:
        """Start no more jobs; returns at once."""
        return self._ask(requests.Drain(), replies.Drained).drain

    def wait_drained(self, timeout: float | None = None) -> views.DrainView:
        """Until nothing runs any more, or someone resumed; raises WaitTimeout."""
        from sttd.client import flows

        return self._line.run(flows.wait_drained(timeout))

    def resume(self) -> views.DrainView:
        """Undo `drain`."""
        return self._ask(requests.Resume(), replies.Drained).drain

    def recycle(self, worker: str | None = None) -> tuple[str, ...]:
        """Replace a worker, or each of them, after its job; the ids of those told."""
        return self._ask(requests.Recycle(worker=worker), replies.Recycling).recycle.workers

    def scale(self, workers: int) -> views.ScaleView:
        """Have this many workers until the next start."""
        return self._ask(requests.Scale(workers=workers), replies.Scaled).scale

    def reload(self) -> views.ReloadView:
        """Have the configuration read again."""
        return self._ask(requests.Reload(), replies.Reloaded).reload

    def events(
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
        return self._ask(request, replies.Events).events.events

    def follow(self, events: Sequence[str] = ()) -> Following:
        """Events as they happen, those named (or of the families named): an endless iterator.

        Subscribed when this returns. What happens while the daemon is away is missed. Close it
        when done; closing the client closes it, too.
        """
        from sttd.client.following import Following

        return Following(self._line, tuple(events))

    def _ask(self, request: Request, kind: type[R]) -> R:
        reply, _ = self._line.call(request)
        if not isinstance(reply, kind):
            raise unexpected(request, reply)
        return reply
