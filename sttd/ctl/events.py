"""The verb events: what happened, and with --follow what happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

from sttd.ctl import moments
from sttd.ctl.completing import complete_event, complete_job, complete_past_worker
from sttd.ctl.session import Session, complain, json_option, pass_session, print_json_line
from sttd.wire.requests import MAX_LISTED
from sttd.wire.views import EventView

if TYPE_CHECKING:
    from sttd.client.following import Following

BEFORE_FOLLOWING = 10  # events shown first, as `journalctl -f` does
ASK_S = 0.5  # without an event, until the daemon is asked whether it lives


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on.")
@click.option("--since", metavar="T", help="A time, or so long ago: 10min, 2h, 1d.")
@click.option(
    "--event",
    "names",
    multiple=True,
    metavar="E",
    shell_complete=complete_event,
    help="job.failed, or job; repeat.",
)
@click.option("--job", metavar="JOB", shell_complete=complete_job, help="Only this job's.")
@click.option(
    "--worker", metavar="WORKER", shell_complete=complete_past_worker, help="Only this worker's."
)
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
    _doubt(names)
    show = _printer(session)
    start = None if since is None else moments.instant(since)
    default = BEFORE_FOLLOWING if follow and since is None else 100
    with contextlib.ExitStack() as stack:
        live: Iterator[EventView] = iter(())
        if follow:
            live = _while_alive(session, stack.enter_context(session.client.follow(names)))
        ask = partial(session.client.events, events=names, job=job, worker=worker)
        shown: tuple[EventView, ...] = ()
        whole = start is not None and limit is None
        if whole:
            pages = _pages(ask, str(start))
        else:
            pages = iter([ask(since=start, limit=limit or default)])
        for page in pages:
            for event in page:
                show(event)
            shown = (*shown, *page)[-MAX_LISTED:]
        if not shown:
            _nothing(session, job, worker, follow=follow)
        for event in _fresh(live, shown, whole=whole):
            if job in (None, event.get("job")) and worker in (None, event.get("worker")):
                show(event)


def _pages(
    ask: Callable[..., tuple[EventView, ...]], since: str
) -> Iterator[tuple[EventView, ...]]:
    """All since then, some at a time, each once.

    Moments are told to the millisecond: a page begins with the one in which the last page ended.
    """
    seen: list[EventView] = []  # of that millisecond
    while True:
        page = ask(since=since, limit=MAX_LISTED)
        yield tuple(event for event in page if event not in seen)
        if len(page) < MAX_LISTED or page[0]["timestamp"] == page[-1]["timestamp"]:
            return
        since = str(page[-1]["timestamp"])
        seen = [event for event in page if event["timestamp"] == since]


def _while_alive(session: Session, following: Following) -> Iterator[EventView]:
    """Events as they come; DaemonUnavailable when the daemon is gone, which brings none."""
    while True:
        while not following.wait(ASK_S):
            session.client.version()
        yield next(following)


def _doubt(names: tuple[str, ...]) -> None:
    """Warn of names that no event has; a newer daemon may have more, so it is no error."""
    from sttd.events import EVENTS  # noqa: PLC0415 - only for this verb

    for name in names:
        if not any(one == name or one.startswith(f"{name}.") for one in EVENTS):
            import difflib  # noqa: PLC0415 - only for a slip of the fingers

            near = difflib.get_close_matches(name, EVENTS, n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/events.md has them all"
            complain(f"no event is called {name}", hint)


def _nothing(session: Session, job: str | None, worker: str | None, *, follow: bool) -> None:
    """Nothing has happened, or nothing that has this name is there: the daemon knows near ones.

    Raises Refused.
    """
    if job is not None:
        session.client.show(job)
    if worker is not None and not follow:  # following one that will come is fair
        session.client.why(worker)
    if not (follow or session.json):
        from rich.text import Text  # noqa: PLC0415 - slow to import

        from sttd.ctl import views  # noqa: PLC0415

        views.console().print(Text("no events", style="dim"))


def _fresh(
    live: Iterator[EventView], shown: tuple[EventView, ...], *, whole: bool
) -> Iterator[EventView]:
    """Live events, but those that the history had already: it was asked for after subscribing.

    `shown` are the last of it; `whole`: and all that went before them.
    """
    first, last = (str(shown[n].get("timestamp")) for n in (0, -1)) if shown else ("", "")
    for event in live:
        moment = str(event.get("timestamp"))
        if (moment <= last and event in shown) or (whole and moment < first):
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
