"""The command line of `sttd`: run the daemon, check a configuration, transcribe files once, repair.

Parses and dispatches; each command imports what it needs when it runs, so that `--help` and a
wrong option cost nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttd import __version__, streams

if TYPE_CHECKING:
    from sttd.config.problems import Problem

CONFIG = click.option(
    "-c",
    "--config",
    type=click.Path(dir_okay=False),
    default=None,
    help="Configuration file; else $STTD_CONFIG, else /etc/sttd/sttd.toml, else defaults.",
)
EX_FAILED, EX_CONFIG, EX_HELD = 1, 2, 3
FOLDERS = frozenset(
    {"state_dir", "inbox.path", "outbox.path", "control.endpoint", "control.events"}
)


class Commands(click.Group):
    """A group whose streams are in order, and that tells a full disk in one line."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click does."""
        streams.settle()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in streams.UNWRITABLE or error.filename is not None:
                raise
            click.echo(f"sttd: cannot write: {error.strerror}", err=True)
            streams.give_up_stdout()
            sys.exit(EX_FAILED)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@CONFIG
@click.version_option(__version__, prog_name="sttd")
@click.pass_context
def main(context: click.Context, config: str | None) -> None:
    """Turn recordings into transcripts. Without a command: run the daemon in the foreground."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    from sttd.supervisor.main import serve  # noqa: PLC0415 (see the docstring)

    sys.exit(serve(_load(config), config))


@main.command("check-config")
@CONFIG
@click.pass_context
def check_config(context: click.Context, config: str | None) -> None:
    """Validate the configuration and say what is wrong with it, key by key."""
    from sttd.config.checking import check  # noqa: PLC0415
    from sttd.engines.trial import refusal  # noqa: PLC0415

    problems = check(config or context.obj, engine_check=_check_options, engine_trial=refusal)
    for problem in problems:
        click.echo(str(problem), err=True)
    if any(problem.level == "error" for problem in problems):
        sys.exit(EX_CONFIG)
    click.echo(f"the configuration is valid{_as_far_as_seen(problems)}")


def _as_far_as_seen(problems: Sequence[Problem]) -> str:
    """Folders that this user may not use end a daemon of this user, though not another's."""
    if not any(problem.key in FOLDERS for problem in problems):
        return ""
    return f", but for a daemon of user {os.geteuid()}, which would not start"


@main.command("init")
@click.option("--engine", help="azure, pocketsphinx, or a plug-in's name.")
@click.option("--region", help="Azure: the resource's region.")
@click.option("--resource-id", help="Azure: the resource's id (for --auth entra with --region).")
@click.option("--endpoint", help="Azure: the resource's address (with --auth entra).")
@click.option("--host", help="Azure: the address of a Speech container.")
@click.option("--auth", type=click.Choice(["entra", "key", "none"]), help="Azure: how to sign in.")
@click.option("--key", help="Azure: the NAME of the credential that holds the key.")
@click.option("--state-dir", help="Where the inbox, the outbox and all else is.")
@click.option("--yes", is_flag=True, help="Ask nothing; what is not given keeps its default.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="The file to write, else /etc/sttd/sttd.toml, or where the package has put that one, "
    "/etc/sttd/conf.d/10-init.toml. One that is there is never replaced.",
)
def init(output: Path | None, *, yes: bool, **wishes: str | None) -> None:
    """Write a first configuration, by asking or from flags, and check it."""
    from sttd import setting_up  # noqa: PLC0415

    wanted = setting_up.Wishes(**wishes)
    output = output or setting_up.default_target()
    try:
        setting_up.look_at(output)
        if not yes:
            setting_up.complete(wanted)
        problems = setting_up.place(setting_up.text_of(wanted, output), output, _check_options)
    except OSError as error:
        click.echo(f"sttd: {error}", err=True)
        sys.exit(EX_FAILED)
    for problem in problems:
        click.echo(f"{problem.level}: {problem}", err=True)
    if any(problem.level == "error" for problem in problems):
        click.echo(f"sttd: {output} was not written", err=True)
        sys.exit(EX_CONFIG)
    click.echo(f"{output} is written and valid. Next:\n{setting_up.next_steps(wanted, output)}")


@main.command("run-once")
@CONFIG
@click.option(
    "--in-process", is_flag=True, help="Run the engine here, without workers (debugging)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole transcripts as JSON.")
@click.argument("audio", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def run_once(
    context: click.Context,
    config: str | None,
    audio: tuple[Path, ...],
    *,
    in_process: bool,
    as_json: bool,
) -> None:
    """Transcribe the files given through the same pool; no daemon is needed."""
    from sttd.supervisor import once  # noqa: PLC0415

    settings = _load(config or context.obj)
    for path in audio:
        if not path.is_file():
            why = "is a folder, not a recording" if path.is_dir() else "no such file"
            click.echo(f"sttd: {path}: {why}", err=True)
            sys.exit(EX_CONFIG)
    if in_process:
        from sttd.worker.inprocess import transcribe_here  # noqa: PLC0415

        sys.exit(transcribe_here(settings, audio, as_json=as_json))
    sys.exit(once.transcribe(settings, audio, as_json=as_json))


@main.command("check-engine")
@CONFIG
@click.pass_context
def check_engine(context: click.Context, config: str | None) -> None:
    """Connect, authenticate and transcribe two seconds of silence; say what is wrong."""
    from sttd.worker.checkup import check_up  # noqa: PLC0415

    sys.exit(check_up(_load(config or context.obj)))


@main.command("check-sandbox")
def check_sandbox() -> None:
    """Say which walls this machine can put around the decoders; see docs/security.md."""
    from sttd.worker import sandbox  # noqa: PLC0415

    standing = sandbox.try_out()
    click.echo("resource limits: active")
    for name in ("landlock", "seccomp"):
        click.echo(f"{name}: {'active' if name in standing else 'missing'}")
    sys.exit(EX_FAILED if len(standing) < 2 else 0)


@main.command("rebuild-ledger")
@CONFIG
@click.option("--force", is_flag=True, help="Replace a ledger that is whole, too.")
@click.pass_context
def rebuild_ledger(context: click.Context, config: str | None, *, force: bool) -> None:
    """Make a new ledger from the spool and the outbox; a damaged one is moved aside."""
    from sttd.supervisor import rebuilding  # noqa: PLC0415
    from sttd.supervisor.ledger import LedgerError  # noqa: PLC0415
    from sttd.supervisor.lock import HeldError  # noqa: PLC0415

    settings = _load(config or context.obj)
    try:
        made = rebuilding.rebuild(settings, force=force)
    except (HeldError, rebuilding.WholeError, LedgerError, OSError) as error:
        click.echo(f"sttd: {error}", err=True)
        sys.exit(EX_HELD if isinstance(error, HeldError) else EX_FAILED)
    click.echo(f"{made.succeeded} jobs are done, {made.queued} wait")
    if made.aside:
        click.echo(f"the old ledger is {made.aside}")


def _check_options(engine: str, options: Mapping[str, object]) -> None:
    """Let an engine that can judge its options without being imported do so: ValueError."""
    if engine == "azure":
        from sttd.engines.azure.settings import check_token, read_settings  # noqa: PLC0415

        check_token(read_settings(options), os.environ)


def _load(config: str | None):  # type: ignore[no-untyped-def]  # noqa: ANN202 (Settings is not imported here)
    from sttd.config import ConfigError, load  # noqa: PLC0415

    try:
        return load(config)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"sttd: {problem}", err=True)
        sys.exit(EX_CONFIG)
