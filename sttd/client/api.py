"""The public client: one method for each thing the daemon can be asked, typed, synchronous."""

# ruff: noqa: PLC0415 - what few calls need is imported by them: `sttctl status` must be quick
from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Self, TypeVar

from sttd.client.connection import PATIENCE_S, Connection, Curve
from sttd.client.errors import Refused, WaitTimeout
from sttd.wire import replies, requests, views
from sttd.wire.codes import Code
from sttd.wire.lives import LifeView, SettingView, WhyView
from sttd.wire.memory import CurvesView, MemoryView
from sttd.wire.replies import Reply
from sttd.wire.requests import Request

if TYPE_CHECKING:
    from pathlib import Path

    from sttd.client.following import Following

DEFAULT_ENDPOINT = "ipc:///run/sttd/control.sock"
HOLD_S = 30.0  # one Wait is held by the daemon for so long
BUSY_PAUSE_S = 0.25  # before asking again while too many others wait

R = TypeVar("R", bound=Reply)
Progress = Callable[[int, int], None]  # bytes sent so far, bytes in all
Recording = str | os.PathLike[str] | bytes | IO[bytes]


class Client:
    """A running sttd, seen from a program beside it; for one thread at a time.

    Every method raises DaemonUnavailable when nobody answers, and Refused when the daemon says
    no. A daemon that restarts in between is found again.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        curve: Curve | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Nothing is sent yet; `patience_s` is how long a silent daemon is waited for."""
        self._line = Connection(endpoint, curve=curve, patience_s=patience_s)

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

        return submitting.submit(
            self._line,
            recording,
            name=name,
            options=_wishes(options, languages),
            priority=priority,
            key=key,
            progress=progress,
        )

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

        return submitting.submit_url(
            self._line,
            url,
            options=_wishes(options, languages),
            priority=priority,
            key=key,
        )

    # -- jobs -----------------------------------------------------------------------------------
    def jobs(
        self, *, state: views.JobStateName | None = None, limit: int = 50
    ) -> tuple[views.JobView, ...]:
        """The newest jobs first, at most `limit`."""
        found: list[views.JobView] = []
        while len(found) < limit:
            page = min(limit - len(found), requests.MAX_LISTED)
            before = found[-1].job if found else None
            request = requests.Jobs(state=state, limit=page, before=before)
            got = self._ask(request, replies.Jobs).jobs.jobs
            found.extend(got)
            if len(got) < page:
                break
        return tuple(found)

    def show(self, job: str) -> views.JobDetailView:
        """One job with its timeline."""
        return self._ask(requests.Show(job=job), replies.Detail).job

    def wait(
        self,
        jobs: str | Iterable[str],
        timeout: float | None = None,
        *,
        watch: Callable[[Sequence[views.JobView]], None] | None = None,
        every: float = HOLD_S,
    ) -> tuple[views.JobView, ...]:
        """The jobs once all are final, in the order given; raises WaitTimeout after `timeout` s.

        `watch` is told how they stand, `every` so many seconds.
        """
        wanted = [jobs] if isinstance(jobs, str) else list(jobs)
        deadline = None if timeout is None else time.monotonic() + timeout
        done: list[views.JobView] = []
        for start in range(0, len(wanted), requests.MAX_LISTED):
            batch = tuple(wanted[start : start + requests.MAX_LISTED])
            done += self._wait(batch, deadline, watch, every)
        return tuple(done)

    def _wait(
        self,
        batch: tuple[str, ...],
        deadline: float | None,
        watch: Callable[[Sequence[views.JobView]], None] | None,
        every: float,
    ) -> tuple[views.JobView, ...]:
        while True:
            left = HOLD_S if deadline is None else max(0.0, deadline - time.monotonic())
            request = requests.Wait(jobs=batch, timeout_s=min(left, every, HOLD_S))
            try:
                found = self._ask(request, replies.Jobs).jobs.jobs
            except Refused as error:
                if error.code != Code.BUSY:
                    raise
                time.sleep(min(left, BUSY_PAUSE_S))
                found = ()
            if watch is not None and found:
                watch(found)
            unfinished = [job for job in found if job.state not in views.FINAL_STATES]
            if found and not unfinished:
                return found
            if deadline is not None and time.monotonic() >= deadline:
                left_over = len(unfinished) or len(batch)
                raise WaitTimeout(f"{left_over} of {len(batch)} not finished", found)

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

        return b"".join(transfer.fetch(self._line, job, output))

    def download(self, job: views.JobView, folder: str | os.PathLike[str]) -> list[Path]:
        """Copy a finished job's outputs beneath `folder`; where they are now."""
        from sttd.client import transfer

        return transfer.download(self._line, job, folder)

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
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = HOLD_S if deadline is None else max(0.0, deadline - time.monotonic())
            request = requests.WaitDrained(timeout_s=min(left, HOLD_S))
            drain = self._ask(request, replies.Drained).drain
            if drain.state != "draining":
                return drain
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(f"{drain.running} jobs are still running", drain=drain)

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
            raise Refused(
                Code.VERSION_MISMATCH,
                f"{requests.verb(request)} was answered with {type(reply).__name__}",
                "install the same version of sttd on both sides",
            )
        return reply


def _wishes(options: Mapping[str, object] | None, languages: Sequence[str]) -> dict[str, object]:
    """A job's options as one object."""
    wishes = dict(options or {})
    if languages:
        wishes["languages"] = list(languages)
    return wishes
