"""Verbs about jobs that are there: jobs, show, wait, cancel, retry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import click

from sttd.client import WaitTimeout
from sttd.ctl import human, moments
from sttd.ctl.completing import (
    complete_job,
    complete_retriable,
    complete_state,
    complete_waiting,
)
from sttd.ctl.session import (
    Exit,
    Session,
    complain,
    json_option,
    pass_session,
    print_json,
)
from sttd.wire.views import JobStateName, JobsView, JobView, RetriedView, SourceKind

_SORT: dict[str, Callable[[JobView], Any]] = {
    "created": lambda job: job.created,
    "started": lambda job: job.started or "",
    "finished": lambda job: job.finished or "",
    "duration": lambda job: job.duration_s or 0.0,
    "tries": lambda job: job.attempts,
    "priority": lambda job: job.priority,
    "name": lambda job: job.source.name,
    "state": lambda job: job.state,
}


@click.command()
@click.option(
    "--state", metavar="S", shell_complete=complete_state, help="Only those in this state."
)
@click.option("--since", metavar="T", help="Created then or later: a time, or 10min, 2h, 1d.")
@click.option("--until", metavar="T", help="Created before.")
@click.option("--name", metavar="PART", help="The recording's name has this in it.")
@click.option(
    "--kind", type=click.Choice(get_args(SourceKind)), help="The way by which they came in."
)
@click.option("--key", metavar="K", help="The one that was submitted under this key.")
@click.option("--oldest", is_flag=True, help="The oldest first.")
@click.option("--behind", metavar="JOB", shell_complete=complete_job, help="Go on behind this one.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, metavar="N", show_default=True, help="At most N."
)
@click.option("--sort", type=click.Choice(list(_SORT)), help="Sort what is listed, up.")
@click.option("--reverse", is_flag=True, help="Sort down.")
@json_option
@pass_session
def jobs(
    session: Session,
    state: str | None,
    since: str | None,
    until: str | None,
    name: str | None,
    kind: SourceKind | None,
    key: str | None,
    oldest: bool,
    behind: str | None,
    limit: int,
    sort: str | None,
    reverse: bool,
) -> None:
    """List jobs, the newest first.

    The last one of a list is where the next goes on: --behind JOB. --sort is about the jobs
    that are listed, not about all there are.
    """
    if reverse and sort is None:
        raise click.UsageError("--reverse is for --sort; --oldest lists the oldest first")
    found = session.client.jobs(
        state=_state(state),
        limit=limit,
        order="oldest" if oldest else "newest",
        behind=behind,
        since=None if since is None else moments.instant(since),
        until=None if until is None else moments.instant(until, option="--until"),
        name=name,
        kind=kind,
        key=key,
    )
    if sort is not None:
        found = tuple(sorted(found, key=_SORT[sort], reverse=reverse))
    _list(session, found)


def _state(given: str | None) -> JobStateName | None:
    known: tuple[JobStateName, ...] = get_args(JobStateName)
    for name in known:
        if name == given:
            return name
    if given is not None:
        raise click.UsageError(f"{given!r} is no state of a job; those are {', '.join(known)}")
    return None


@click.command()
@click.argument("job", shell_complete=complete_job)
@json_option
@pass_session
def show(session: Session, job: str) -> None:
    """Show one job and what has happened to it."""
    view = session.client.show(job)
    if session.json:
        print_json(view)
        return
    from sttd.ctl import views  # noqa: PLC0415 - rich is slow to import

    views.job(view)


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_job)
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="S", help="Wait no longer than that."
)
@json_option
@pass_session
def wait(session: Session, jobs: tuple[str, ...], timeout: float | None) -> int:
    """Wait until all these jobs are finished; exit 1 unless all succeeded."""
    try:
        found = session.client.wait(jobs, timeout)
    except WaitTimeout as error:
        _list(session, error.jobs)
        complain(str(error))
        return Exit.TIMEOUT
    _list(session, found)
    return Exit.OK if all(job.state == "succeeded" for job in found) else Exit.REFUSED


@click.command()
@click.argument("job", shell_complete=complete_waiting)
@json_option
@pass_session
def cancel(session: Session, job: str) -> None:
    """Cancel a job that waits or runs."""
    view = session.client.cancel(job)
    if session.json:
        print_json(view)
    else:
        click.echo(f"{view.job} {view.state}")


@click.command()
@click.argument("job", required=False, shell_complete=complete_retriable)
@click.option("--all-failed", is_flag=True, help="Every job that has failed.")
@json_option
@pass_session
def retry(session: Session, job: str | None, all_failed: bool) -> None:
    """Put a failed or cancelled job back into the queue."""
    if (job is None) != all_failed:
        raise click.UsageError("either a JOB or --all-failed")
    if job is not None:
        _retried(session, session.client.retry(job))
        return
    number = session.client.retry_all_failed()
    if session.json:
        print_json(RetriedView(retried=number))
    else:
        click.echo(f"{human.count(number, 'job')} back in the queue")


def _retried(session: Session, view: JobView) -> None:
    if session.json:
        print_json(view)
    else:
        click.echo(f"{view.job} {view.state}")


def _list(session: Session, found: tuple[JobView, ...]) -> None:
    if session.json:
        print_json(JobsView(jobs=found))
        return
    from sttd.ctl import views  # noqa: PLC0415 - rich is slow to import

    views.jobs(found)
