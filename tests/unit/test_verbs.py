"""What holds for every command of sttd and sttctl."""

from __future__ import annotations

import click
import pytest

from scripts import man
from sttd import cli
from sttd.ctl import main as ctl

EVERY = [
    verb
    for name, group in (("sttd", cli.main), ("sttctl", ctl.cli))
    for verb in man.verbs(click.Context(group, info_name=name))
]
each_command = pytest.mark.parametrize("verb", EVERY, ids=lambda verb: verb.command_path)


def options(verb: click.Context) -> list[click.Option]:
    return [p for p in verb.command.params if isinstance(p, click.Option)]


@each_command
def test_it_says_what_it_does_and_what_each_option_does(verb: click.Context) -> None:
    assert verb.command.help
    assert [option.opts for option in options(verb) if not option.help] == []


@pytest.mark.parametrize(
    "verb", [v for v in EVERY if v.command_path.startswith("sttctl")], ids=lambda v: v.command_path
)
def test_sttctl_prints_json_on_request(verb: click.Context) -> None:
    if verb.command_path == "sttctl completion":
        pytest.skip("prints a script")
    assert any("--json" in option.opts for option in options(verb))
