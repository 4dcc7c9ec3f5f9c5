"""What every verb of sttctl has in hand: the client, the way to print JSON, the exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import click
import msgspec

from sttd.client import Client

F = TypeVar("F", bound=Callable[..., Any])


class Exit(IntEnum):
    """sttctl's exit codes."""

    OK = 0
    REFUSED = 1  # the request, or the job failed
    USAGE = 2
    NO_DAEMON = 4
    TIMEOUT = 5


class Session:
    """One run of sttctl."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.json = False  # --json was given, wherever it stood


pass_session = click.make_pass_decorator(Session)


def _remember_json(context: click.Context, _option: click.Parameter, value: bool) -> None:
    context.ensure_object(Session).json |= value


def json_option(command: F) -> F:
    """`--json`, which every verb takes; it is found at `session.json`."""
    option = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_remember_json,
        help="Print JSON, as docs/protocol.md describes it.",
    )
    return option(command)


def print_json(value: object) -> None:
    """One JSON value: a line in a pipe, indented on a terminal."""
    text = msgspec.json.encode(value)
    if sys.stdout.isatty():
        text = msgspec.json.format(text, indent=2)
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()


def print_json_line(value: object) -> None:
    """One JSON value of many: a line, also on a terminal."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


def complain(message: str, hint: str = "") -> None:
    """One line on stderr."""
    line = f"sttctl: {message}; {hint}" if hint else f"sttctl: {message}"
    print(line.replace("\n", " "), file=sys.stderr)
