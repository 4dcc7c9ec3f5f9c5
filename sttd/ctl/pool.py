"""Verbs about the workers: workers, recycle, scale."""

from __future__ import annotations

import click

from sttd.ctl import human
from sttd.ctl.completing import complete_worker
from sttd.ctl.session import Session, json_option, pass_session, print_json
from sttd.wire.lives import LivesView
from sttd.wire.requests import MAX_LISTED
from sttd.wire.views import RecycleView, WorkersView


@click.command()
@click.option("--history", is_flag=True, help="Those that are gone, and why; the latest first.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LISTED),
    default=50,
    metavar="N",
    show_default=True,
    help="At most N lives; with --history.",
)
@json_option
@pass_session
def workers(session: Session, history: bool, limit: int) -> None:
    """List the workers."""
    if history:
        _history(session, limit)
        return
    found = session.client.workers()
    if session.json:
        print_json(WorkersView(workers=found))
        return
    from sttd.ctl import views  # noqa: PLC0415 - rich is slow to import

    views.workers(found)


def _history(session: Session, limit: int) -> None:
    found = session.client.lives(limit=limit)
    if session.json:
        print_json(LivesView(lives=found))
        return
    from sttd.ctl import past  # noqa: PLC0415 - rich is slow to import

    past.lives(found)


@click.command()
@click.argument("worker", required=False, shell_complete=complete_worker)
@click.option("--all", "every", is_flag=True, help="All of them, which is what no WORKER means.")
@json_option
@pass_session
def recycle(session: Session, worker: str | None, every: bool) -> None:
    """Replace a worker, or all of them, each after its job."""
    if worker and every:
        raise click.UsageError("either a WORKER or --all")
    told = session.client.recycle(worker)
    if session.json:
        print_json(RecycleView(workers=told))
    else:
        click.echo(f"recycling {', '.join(told)}" if told else "there are no workers now")


@click.command()
@click.argument("number", metavar="N", type=click.IntRange(0, 1024))
@json_option
@pass_session
def scale(session: Session, number: int) -> None:
    """Have N workers, until the daemon's next start."""
    view = session.client.scale(number)
    if session.json:
        print_json(view)
    else:
        click.echo(f"{human.count(view.configured, 'worker')}, {view.previous} before")
