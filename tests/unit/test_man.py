"""The manual pages say what --help and the configuration say, and a formatter takes them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import msgspec
import pytest

from scripts import man, roff, shipped
from sttd import cli
from sttd.config.environment import variable_of
from sttd.config.schema import KEYS
from sttd.ctl import main as ctl

ROOT = Path(__file__).parents[2]
PAGES = ("sttd.8", "sttctl.1", "sttd.toml.5")
CONFIGURATION = (ROOT / "etc" / "sttd.toml").read_text()

each_page = pytest.mark.parametrize("page", PAGES)


def rendered(path: Path) -> str:
    """The page as a reader sees it, without line breaks within words."""
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("man and groff are not installed")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-P", "cat", "-l", str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "100"},
    )
    assert done.stderr == ""
    return re.sub(r".\x08", "", done.stdout)


@each_page
def test_the_pages_in_the_tree_are_those_that_the_source_makes(page: str) -> None:
    shipped_page = (ROOT / "man" / page).read_text()
    assert shipped_page == man.pages()[page], "run: make man"


@each_page
def test_a_formatter_takes_the_page_without_a_warning(page: str) -> None:
    assert "NAME" in rendered(ROOT / "man" / page)


@each_page
def test_mandoc_finds_nothing_wrong(page: str) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    command = ["mandoc", "-Tlint", "-Wwarning", str(ROOT / "man" / page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wrong = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert wrong == []


@pytest.mark.parametrize(("page", "group"), [("sttd.8", cli.main), ("sttctl.1", ctl.cli)])
def test_every_command_and_every_option_has_its_place(page: str, group: click.Group) -> None:
    context = click.Context(group, info_name=page.partition(".")[0])
    text = rendered(ROOT / "man" / page)
    for verb in man.verbs(context):
        heading = verb.command_path.partition(" ")[2]
        part = text.partition(f"\n   {heading}\n")[2].split("\n   ", 1)[0]
        assert part, heading
        for parameter in verb.command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[-1] in text


def test_every_key_stands_in_the_page_of_the_configuration() -> None:
    page = (ROOT / "man" / "sttd.toml.5").read_text()
    text = page.replace("\\-", "-")
    missing = [
        name
        for name in KEYS
        if variable_of(name) not in text and name.rpartition(".")[2] not in text
    ]
    assert missing == []


def test_every_key_of_the_shipped_file_is_explained() -> None:
    said = shipped.explanations(CONFIGURATION)
    assert [name for name, text in said.items() if len(text) < 20] == []
    assert {*said} == {name for name, key in KEYS.items() if key.default is not msgspec.UNSET}


def test_nothing_that_roff_would_take_for_a_request_begins_a_line() -> None:
    assert roff.literal(".SH") == r"\&.SH"
    assert roff.literal("'ab") == r"\(aqab"
    assert roff.prose("say `a-b`\nand \\n") == r"say \fBa\-b\fR and \en"
