"""What can go wrong for a client: nobody answers, the daemon refuses, a job fails, time is over."""

from __future__ import annotations

from collections.abc import Sequence

from sttd.wire.views import DrainView, JobView


class SttdError(Exception):
    """Any failure of a client; the message is one line for a person."""


class DaemonUnavailable(SttdError):  # noqa: N818 - a state of the world, as its users name it
    """No daemon answers at the endpoint; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Refused(SttdError):  # noqa: N818 - likewise
    """The daemon (or the kernel, on its behalf) said no.

    `code` is one of `sttd.wire.codes.Code`; `hint` says what to do and may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


class WaitTimeout(SttdError):  # noqa: N818 - likewise
    """The time is over; `jobs` or `drain` is what was waited for, as it was last seen."""

    def __init__(
        self, message: str, jobs: Sequence[JobView] = (), drain: DrainView | None = None
    ) -> None:
        super().__init__(message)
        self.jobs = tuple(jobs)
        self.drain = drain


class JobFailed(SttdError):  # noqa: N818 - likewise
    """The job failed or was cancelled; `job` is how it stands, and `job.error` says why."""

    def __init__(self, job: JobView) -> None:
        why = f": {job.error.code}: {job.error.message}" if job.error else ""
        super().__init__(f"job {job.job} ({job.source.name}) is {job.state}{why}")
        self.job = job


class StreamRestarted(SttdError):  # noqa: N818 - likewise
    """The job was begun anew: the segments given so far are void. Ask for the stream again."""

    def __init__(self, job: str) -> None:
        super().__init__(f"job {job} was begun anew; the segments so far are void")
        self.job = job
