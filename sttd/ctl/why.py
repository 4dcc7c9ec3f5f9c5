"""The verb why: what became of a worker or a job, and what is known of the reason."""

from __future__ import annotations

import click

from sttd.ctl.completing import complete_about
from sttd.ctl.session import Session, json_option, pass_session, print_json


@click.command()
@click.argument("about", metavar="WORKER|JOB", shell_complete=complete_about)
@json_option
@pass_session
def why(session: Session, about: str) -> None:
    """Say why a worker was ended, or what happened to a job."""
    view = session.client.why(about)
    if session.json:
        print_json(view)
        return
    from sttd.ctl import past  # noqa: PLC0415 - rich is slow to import

    past.why(view)
