"""The verb events: what happened, and with --follow what happens."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Callable, Iterator

import click

from sttd.ctl.session import Session, json_option, pass_session, print_json_line
from sttd.wire.requests import MAX_LISTED
from sttd.wire.views import EventView

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)?")
BEFORE_FOLLOWING = 10  # events shown first, as `journalctl -f` does


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on.")
@click.option("--since", metavar="T", help="A time, or so long ago: 10min, 2h, 1d.")
@click.option("--event", "names", multiple=True, metavar="E", help="job.failed, or job; repeat.")
@click.option("--job", metavar="JOB", help="Only this job's.")
@click.option("--worker", metavar="WORKER", help="Only this worker's.")
@click.option(
    "--limit", type=click.IntRange(1, MAX_LISTED), default=None, metavar="N", help="At most N."
)
@json_option
@pass_session
def events(
    session: Session,
    follow: bool,
    since: str | None,
    names: tuple[str, ...],
    job: str | None,
    worker: str | None,
    limit: int | None,
) -> None:
    """Show what happened, the oldest first; with --json one object a line."""
    show = _printer(session)
    start = None if since is None else _instant(since, dt.datetime.now(dt.UTC))
    default = BEFORE_FOLLOWING if follow and since is None else 100
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(session.client.follow(names)) if follow else iter(())
        history = session.client.events(
            since=start, events=names, job=job, worker=worker, limit=limit or default
        )
        for event in history:
            show(event)
        for event in _fresh(live, history):
            if job in (None, event.get("job")) and worker in (None, event.get("worker")):
                show(event)


def _fresh(live: Iterator[EventView], shown: tuple[EventView, ...]) -> Iterator[EventView]:
    """Live events, but those that the history had already: it was asked for after subscribing."""
    last = shown[-1].get("timestamp") if shown else None
    for event in live:
        if last is not None and str(event.get("timestamp")) <= str(last) and event in shown:
            continue
        yield event


def _printer(session: Session) -> Callable[[EventView], None]:
    if session.json:
        return print_json_line
    from sttd.ctl import views  # noqa: PLC0415 - rich is slow to import

    out = views.console()

    def show(event: EventView) -> None:
        out.print(views.event_line(event))
        out.file.flush()

    return show


def _instant(text: str, now: dt.datetime) -> str:
    """UTC as the protocol has it, from a time (local unless it says so) or from `2h`."""
    span = _SPAN.fullmatch(text.strip())
    try:
        if span is not None:
            ago = dt.timedelta(seconds=float(span[1]) * _UNITS[span[2] or "s"])
            moment = now - ago
        else:
            moment = dt.datetime.fromisoformat(text.strip()).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(
            f"--since {text!r}: a time as 2026-01-31T12:00, or a span as 90s, 10min, 2h, 7d"
        ) from error
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
