"""Plain text as roff, the language of manual pages: the few requests of man(7) that are needed.

Pure: text in, text out. What stands in backquotes becomes bold, all else is literal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# What roff would turn into typographic characters, or take for itself: groff_char(7), man(7).
_LITERAL = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    '"': r"\(dq",
}
_BEGUN = re.compile(r"^(\.S[HS] .*\n)\.PP\n", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")


def literal(text: str) -> str:
    """The text, character by character; safe at the beginning of a line."""
    escaped = "".join(_LITERAL.get(char, char) for char in text)
    return r"\&" + escaped if escaped.startswith(".") else escaped


def bold(text: str) -> str:
    """In bold."""
    return rf"\fB{literal(text)}\fR"


def italic(text: str) -> str:
    """In italics, or underlined."""
    return rf"\fI{literal(text)}\fR"


def prose(text: str) -> str:
    """One paragraph as one line; `code` in bold."""
    joined = " ".join(text.split())
    parts = _CODE.split(joined)
    return "".join(bold(p) if n % 2 else literal(p) for n, p in enumerate(parts))


def title(name: str, section: int, version: str, manual: str) -> str:
    """The head of a page, without hyphenation; it has no date, so that it changes with its text."""
    head = f'.TH {literal(name.upper())} {section} "" "{literal(version)}" "{literal(manual)}"'
    return f"{head}\n.nh\n.ad l\n"


def heading(name: str) -> str:
    """A section."""
    return f'.SH "{literal(name)}"\n'


def subheading(name: str) -> str:
    """A section within one."""
    return f'.SS "{literal(name)}"\n'


def paragraph(text: str) -> str:
    """A paragraph of prose."""
    return f".PP\n{prose(text)}\n"


def verbatim(lines: Iterable[str]) -> str:
    """Lines as they stand, indented."""
    body = "\n".join(literal(line) if line else r"\&" for line in lines)
    return f".PP\n.RS 4\n.nf\n{body}\n.fi\n.RE\n"


def tags(names: Iterable[str]) -> str:
    """What is explained next (roff, one or several); prose follows."""
    first, *others = names
    return f".TP\n{first}\n" + "".join(f".TQ\n{name}\n" for name in others)


def item(names: Iterable[str], text: str) -> str:
    """What is explained and its explanation."""
    return tags(names) + (prose(text) or r"\&") + "\n"


def tidy(page: str) -> str:
    """Without paragraphs where one begins by itself: after a heading."""
    return _BEGUN.sub(r"\1", page)
