"""What is wrong with a configuration: where, which key, and what to do. One line each.

Values only. A value that may be a secret is never part of a line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from sttd.config.sections import Settings

_SECRETIVE = re.compile(r"key|secret|token|password|passwd|credential|proxy|^url$", re.IGNORECASE)
_LONGEST = 60  # characters of a value that are shown


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `shown` is the offending value as it may be shown, or ""."""

    where: str  # "/etc/sttd/sttd.toml:12", "environment STTD_POOL__WORKERS", a folder
    key: str  # "pool.workers"; "" when the file as a whole is meant
    message: str
    remedy: str = ""
    shown: str = ""
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        subject = f"{self.key} = {self.shown}" if self.shown else self.key
        parts = [part for part in (self.where, subject, self.message) if part]
        line = ": ".join(parts) + (f"; {self.remedy}" if self.remedy else "")
        return _plain(line)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` has every reason found, errors first.

    `settings` are what could be understood, with defaults for the rest: only to look further.
    """

    def __init__(self, problems: Iterable[Problem], settings: Settings | None = None) -> None:
        self.settings = settings
        self.problems = tuple(sorted(problems, key=lambda problem: problem.level))
        super().__init__("\n".join(map(str, self.problems)))


def is_secretive(key: str) -> bool:
    """Whether a key's value must not be shown: its last part sounds like a secret."""
    return _SECRETIVE.search(key.rpartition(".")[2]) is not None


def show(key: str, value: object) -> str:
    """The value as TOML would have it, about, cut to one short line; "" when it may be secret."""
    if is_secretive(key):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show("", each) for each in value) + "]"
    else:
        text = str(value)
    text = _plain(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or ""."""
    folded = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower().replace("-", "_"), folded, 1)
    return folded[near[0]] if near else ""


def did_you_mean(name: str) -> str:
    """A remedy from what `nearest` found."""
    return f'did you mean "{name}"?' if name else ""


def _plain(text: str) -> str:
    """The text as one line that is safe on a terminal: keys and values may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
