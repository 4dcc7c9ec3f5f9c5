"""sttctl's entry: options, the verbs and where they live, errors to exit codes.

A verb's module is imported when the verb is used: `sttctl status --json` must answer at once.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from sttd import __version__, streams
from sttd.client import Client, DaemonUnavailable, Refused, SttdError
from sttd.ctl import finding
from sttd.ctl.session import Exit, Session, complain, print_json
from sttd.wire.codes import Code

# verb -> module beneath sttd.ctl that has a command of that name
VERBS = {
    "status": "daemon",
    "version": "daemon",
    "drain": "daemon",
    "resume": "daemon",
    "reload": "daemon",
    "workers": "pool",
    "recycle": "pool",
    "scale": "pool",
    "why": "why",
    "memory": "memory",
    "top": "top",
    "submit": "submit",
    "jobs": "jobs",
    "show": "jobs",
    "wait": "jobs",
    "cancel": "jobs",
    "retry": "jobs",
    "events": "events",
    "config": "config",
    "keygen": "keygen",
    "completion": "completion",
}


class ReaderGoneError(Exception):
    """Whoever read stdout has what he wanted: `sttctl jobs | head`."""


@contextlib.contextmanager
def _read_by_others() -> Iterator[None]:
    """Take a broken pipe from click, which would call it a failure and end with 1."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError from error


class Verbs(click.Group):
    """A group whose commands are found by `VERBS`."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """As click does; --help is printed here."""
        with _read_by_others():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does."""
        with _read_by_others():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The verb's command, imported now."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"sttd.ctl.{VERBS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but naming the nearest verb."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - only for a slip of the fingers

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else "see sttctl --help"
            raise click.UsageError(f"there is no command {args[0]!r}; {remedy}", ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sttctl", message="%(prog)s %(version)s")
@click.option("--socket", metavar="ENDPOINT", help="The daemon's control socket.")
@click.option("--keys", metavar="FILE", envvar="STTD_KEYS", help="CURVE keys, for tcp only.")
@click.pass_context
def cli(context: click.Context, socket: str | None, keys: str | None) -> None:
    """Talk to a running sttd.

    The daemon is found by --socket, $STTD_SOCKET, its configuration, or at
    ipc:///run/sttd/control.sock. Exit codes: 0 ok, 1 refused or the job failed, 2 usage,
    4 no daemon answers, 5 timed out waiting.
    """
    if context.invoked_subcommand == "keygen":  # needs no daemon, and tcp has no keys yet
        return
    where = finding.endpoint(socket)
    client = Client(where, curve=finding.keys(keys, where), restart_s=0)  # dead after 2 s
    context.obj = Session(client)
    context.call_on_close(client.close)


def main(args: list[str] | None = None) -> NoReturn:
    """Run sttctl and exit."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run sttctl; the exit code."""
    streams.settle()
    try:
        code = cli.main(args, prog_name="sttctl", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except (ReaderGoneError, BrokenPipeError):
        streams.give_up_stdout()
        return Exit.OK
    except SttdError as error:
        return _explain(error, as_json="--json" in args)
    except OSError as error:
        if error.errno in streams.UNWRITABLE:
            streams.give_up_stdout()
        complain(f"{error.filename or 'error'}: {error.strerror or error}")
        return Exit.REFUSED
    return code if isinstance(code, int) else Exit.OK


def _explain(error: SttdError, *, as_json: bool) -> int:
    code, hint = "", ""
    if isinstance(error, Refused):
        code, hint = error.code, error.hint
    elif isinstance(error, DaemonUnavailable):
        code, hint = Code.NO_DAEMON, error.hint
    complain(str(error), hint)
    if as_json and code:
        print_json({"error": {"code": code, "message": str(error), "hint": hint}})
    return Exit.NO_DAEMON if isinstance(error, DaemonUnavailable) else Exit.REFUSED
