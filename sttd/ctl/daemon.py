"""Verbs about the daemon as a whole: status, version, drain, resume, reload."""

from __future__ import annotations

import click

from sttd import __version__
from sttd.client import DaemonUnavailable, WaitTimeout
from sttd.ctl import human
from sttd.ctl.session import (
    Exit,
    Session,
    complain,
    json_option,
    pass_session,
    print_json,
)
from sttd.wire.views import DrainView


@click.command()
@json_option
@pass_session
def status(session: Session) -> None:
    """Show the daemon, its workers, its queue."""
    view = session.client.status()
    if session.json:
        print_json(view)
        return
    from sttd.ctl import views  # noqa: PLC0415 - rich is slow to import

    views.status(view)


@click.command()
@json_option
@pass_session
def version(session: Session) -> None:
    """Show the versions of sttctl and of the daemon."""
    try:
        daemon = session.client.version()
    except DaemonUnavailable:
        if not session.json:
            click.echo(f"sttctl {__version__}")
        raise
    if session.json:
        print_json({"sttctl": __version__, "daemon": daemon.version, "protocol": daemon.protocol})
        return
    click.echo(f"sttctl {__version__}")
    click.echo(f"sttd   {daemon.version}, protocol {daemon.protocol}")


@click.command()
@click.option("--wait", is_flag=True, help="Return when the last running job is done.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="S", help="Wait no longer than that."
)
@json_option
@pass_session
def drain(session: Session, wait: bool, timeout: float | None) -> int:
    """Start no more jobs; those that run go on, what arrives waits."""
    view = session.client.drain()
    code = Exit.OK
    if wait or timeout is not None:
        if not session.json and view.state == "draining":
            click.echo(f"draining, {human.count(view.running, 'job')} still running", err=True)
        try:
            view = session.client.wait_drained(timeout)
        except WaitTimeout as error:
            complain(str(error), "what runs goes on, and nothing new starts")
            if session.json:
                print_json(error.drain or view)
            return Exit.TIMEOUT
        if view.state not in ("drained", "draining"):
            complain("someone resumed before all jobs were done")
            code = Exit.REFUSED
    return _drain_view(session, view, code)


@click.command()
@json_option
@pass_session
def resume(session: Session) -> int:
    """Start jobs again after a drain."""
    return _drain_view(session, session.client.resume(), Exit.OK)


def _drain_view(session: Session, view: DrainView, code: Exit) -> int:
    if session.json:
        print_json(view)
    elif view.state == "draining":
        click.echo(f"draining, {human.count(view.running, 'job')} still running")
    else:
        click.echo(view.state)
    return code


@click.command()
@json_option
@pass_session
def reload(session: Session) -> None:
    """Have the daemon read its configuration again; says what changed."""
    before = {} if session.json else _in_force(session)
    view = session.client.reload()
    if session.json:
        print_json(view)
        return
    if not view.changed and not view.needs_restart:
        click.echo("nothing has changed")
    now = _in_force(session) if view.changed else {}
    for key in view.changed:
        click.echo(
            f"changed: {key} = {now.get(key, 'not set')}, {before.get(key, 'not set')} before"
        )
    for key in view.needs_restart:
        click.echo(f"needs a restart: {key}")


def _in_force(session: Session) -> dict[str, str]:
    """Every key's value, as the file would have it."""
    return {one.key: human.plain(human.toml(one.value)) for one in session.client.config()}
