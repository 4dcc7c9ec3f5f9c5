"""The verb submit: recordings in, and with --wait or --out their transcripts back."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import click

from sttd.client import Refused, WaitTimeout
from sttd.ctl import human
from sttd.ctl.session import (
    Exit,
    Session,
    complain,
    json_option,
    pass_session,
    print_json_line,
)
from sttd.wire.views import FINAL_STATES, JobView, SubmittedView

WATCH_S = 1.0


@click.command()
@click.argument("recordings", metavar="PATH|URL...", nargs=-1, required=True)
@click.option("--wait", is_flag=True, help="Return when they are transcribed.")
@click.option("--follow", "-f", is_flag=True, help="Print what is said as it is recognised.")
@click.option("--language", "languages", multiple=True, metavar="L", help="Such as en-US; repeat.")
@click.option("--priority", type=click.IntRange(-1000, 1000), metavar="N", help="High goes first.")
@click.option("--key", metavar="K", help="The same key gives the same job; for one recording.")
@click.option("--out", metavar="DIR", help="Copy the finished outputs there; waits for them.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="S", help="Wait no longer than that."
)
@json_option
@pass_session
def submit(
    session: Session,
    recordings: tuple[str, ...],
    wait: bool,
    follow: bool,
    languages: tuple[str, ...],
    priority: int | None,
    key: str | None,
    out: str | None,
    timeout: float | None,
) -> int:
    """Hand over recordings; returns once the daemon has them for good."""
    if key is not None and len(recordings) > 1:
        raise click.UsageError("--key is for one recording; give each its own")
    for recording in recordings:
        _check(recording)
    accepted: list[SubmittedView] = []
    refused = False
    waits = wait or follow or out is not None or timeout is not None
    for recording in recordings:
        try:
            job = _hand_over(session, recording, languages, priority, key)
        except Refused as error:
            if len(recordings) == 1:
                raise
            complain(f"{human.plain(recording)}: {error}", error.hint)
            refused = True
            continue
        accepted.append(job)
        if not waits:
            _tell(session, job)
    deadline = None if timeout is None else time.monotonic() + timeout
    if follow:
        from sttd.ctl.follow import follow as print_segments  # noqa: PLC0415 - rich is slow

        print_segments(session, accepted, timeout)
    code = Exit.OK
    if waits and accepted:
        code = _wait(session, accepted, out, deadline, aside=follow)
    return code or (Exit.REFUSED if refused else Exit.OK)


def _is_url(recording: str) -> bool:
    return recording.startswith(("http://", "https://"))


def _check(recording: str) -> None:
    """See to it that nothing is sent when one of the files cannot be."""
    if _is_url(recording):
        return
    try:
        file = os.open(recording, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO must not hold us up
        mode = os.fstat(file).st_mode
        os.close(file)
    except OSError as error:
        raise click.UsageError(f"{human.plain(recording)}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise click.UsageError(f"{human.plain(recording)}: no plain file")


def _hand_over(
    session: Session,
    recording: str,
    languages: Sequence[str],
    priority: int | None,
    key: str | None,
) -> SubmittedView:
    if _is_url(recording):
        return session.client.submit_url(recording, languages=languages, priority=priority, key=key)
    return session.client.submit(recording, languages=languages, priority=priority, key=key)


def _tell(session: Session, job: SubmittedView) -> None:
    if session.json:
        print_json_line(job)
    else:
        known = "  (known already)" if job.duplicate else ""
        click.echo(f"{job.job}  {human.plain(job.source.name)}{known}")


def _wait(
    session: Session,
    accepted: Sequence[SubmittedView],
    out: str | None,
    deadline: float | None,
    *,
    aside: bool,
) -> Exit:
    """Until all are over; `aside`: people are told on stderr, stdout has what was said."""
    code = Exit.OK
    timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
    found: Sequence[JobView]
    try:
        with _watching(session) as watch:
            found = session.client.wait(
                [job.job for job in accepted], timeout, watch=watch, every=WATCH_S
            )
    except WaitTimeout as error:
        complain(str(error), "they go on; `sttctl wait` waits for them")
        code, found = Exit.TIMEOUT, error.jobs or accepted
    for before, job in zip(accepted, found, strict=False):
        copies = []
        if job.state == "succeeded" and out is not None:
            copies = [str(path) for path in session.client.download(job, out)]
        if job.state not in ("succeeded", *_unfinished(job)):
            code = code or Exit.REFUSED
        if session.json:
            fields = {name: getattr(job, name) for name in JobView.__struct_fields__}
            print_json_line(SubmittedView(**fields, duplicate=before.duplicate))
        else:
            _tell_end(job, copies, aside=aside)
    return code


def _unfinished(job: JobView) -> tuple[str, ...]:
    return () if job.state in FINAL_STATES else (job.state,)


def _tell_end(job: JobView, copies: Sequence[str], *, aside: bool) -> None:
    line = f"{job.job}  {job.state}  {human.plain(job.source.name)}"
    if job.error is not None:
        line += human.plain(f"  {job.error.code}: {job.error.message}")
    click.echo(line, err=aside)
    for name in copies or job.outputs:
        click.echo(f"  {human.plain(name)}", err=aside)


@contextlib.contextmanager
def _watching(session: Session) -> Iterator[Callable[[Sequence[JobView]], None] | None]:
    """On a terminal, a line that says how far it is."""
    if session.json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import

    from sttd.ctl.pace import Pace, waiting_line  # noqa: PLC0415

    pace = Pace()
    with Console(stderr=True).status("waiting") as line:

        def watch(jobs: Sequence[JobView]) -> None:
            done = sum(job.state in FINAL_STATES for job in jobs)
            audio = sum(job.progress_s for job in jobs)
            text = f"{done} of {len(jobs)} finished, {human.clock(audio)} of audio"
            going = human.pace(*waiting_line(pace, time.monotonic(), jobs))
            line.update(f"{text}, {going}" if going else text)

        yield watch
