"""The shipped configuration, etc/sttd.toml, read as the manual it is: sections, keys, what is said.

Pure: takes the text. The manual page and the JSON Schema are made from it, so that a key is
explained in one place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TITLE = re.compile(r"# (.+?) -{3,}$")
_SECTION = re.compile(r"\[([\w.]+)\]$")
_GAP = re.compile(r" {3,}")  # between the columns of a table
_KEY = re.compile(r"(\w+) = (.+?)(?:\s+# (.*))?$")


class Key(NamedTuple):
    """A key as it stands there."""

    name: str  # dotted: "pool.workers"
    value: str  # in TOML
    remark: str  # behind it, on the same line


class Group(NamedTuple):
    """Keys that are explained together; without keys, a remark of its own."""

    lines: tuple[str, ...]  # of the comment, without its mark
    keys: tuple[Key, ...]


class Section(NamedTuple):
    """A table, "" for the top."""

    name: str
    title: str
    groups: tuple[Group, ...]


class Paragraph(NamedTuple):
    """A part of a comment: prose, or a table (a row a line)."""

    lines: tuple[str, ...]
    tabular: bool


def head(text: str) -> tuple[str, ...]:
    """The comment at the file's beginning, without its marks."""
    lines = text.partition("\n\n")[0].splitlines()
    return tuple(
        line.removeprefix("#").removeprefix(" ")
        for line in lines
        if not line.startswith("#:")  # a directive for editors
    )


def sections(text: str) -> Iterator[Section]:
    """Every section, in the order of the file."""
    name, title, groups = "", "", list[Group]()
    blocks = [block for block in text.split("\n\n")[1:] if block.strip()]
    for block in blocks:
        lines = block.strip("\n").splitlines()
        upcoming = next((m[1] for line in lines if (m := _TITLE.match(line))), None)
        header = next((m[1] for line in lines if (m := _SECTION.match(line))), None)
        if header is not None:
            yield Section(name, title, tuple(groups))
            name, title, groups = header, upcoming or "", []
        elif group := _group(name, lines):
            groups.append(group)
    yield Section(name, title, tuple(groups))


def _group(section: str, lines: list[str]) -> Group | None:
    said = tuple(line.removeprefix("#").removeprefix(" ") for line in lines if line[:1] == "#")
    prefix = f"{section}." if section else ""
    keys = tuple(
        Key(prefix + found[1], found[2], found[3] or "")
        for line in lines
        if line[:1] != "#" and (found := _KEY.match(line))
    )
    return Group(said, keys) if said or keys else None


def explanations(text: str) -> dict[str, str]:
    """What is said of each key, in one paragraph; its own remark first."""
    found = {}
    for section in sections(text):
        for group in section.groups:
            for key in group.keys:
                found[key.name] = " ".join(f"{key.remark} {' '.join(group.lines)}".split())
    return found


def paragraphs(lines: tuple[str, ...]) -> Iterator[Paragraph]:
    """The comment, divided at empty lines and where a table begins or ends."""
    part: list[str] = []
    tabular = False
    for line in (*lines, ""):
        is_row = bool(_GAP.search(line.rstrip()))
        if part and (is_row != tabular or not line.strip()):
            yield Paragraph(tuple(part), tabular)
            part = []
        if line.strip():
            part.append(line)
            tabular = is_row


def cells(row: str) -> tuple[str, str]:
    """What a row of a table names, and what it says of it."""
    *names, said = [cell for cell in _GAP.split(row.strip()) if cell]
    return " ".join(names), said
