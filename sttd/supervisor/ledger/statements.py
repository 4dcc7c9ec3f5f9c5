"""Reads ledger.sql: named blocks of SQL, each introduced by a line `-- name: purpose`.

Hands out text only; it knows neither SQLite nor what the statements mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Final

_BLOCK = re.compile(r"^-- ([a-z]\w*): .+$", re.MULTILINE)


def load(text: str) -> Mapping[str, str]:
    """The blocks of `text` by name.

    What stands before the first block belongs to nobody.

    Raises:
        ValueError: a name was given twice, or a block is empty.
    """
    _, *parts = _BLOCK.split(text)
    blocks: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in blocks:
            raise ValueError(f"ledger.sql: the name {name!r} is given twice; rename one")
        if not body.strip():
            raise ValueError(f"ledger.sql: {name!r} has no statement; write or remove it")
        blocks[name] = body.strip()
    return MappingProxyType(blocks)


SQL: Final = load(files(__package__).joinpath("ledger.sql").read_text(encoding="utf-8"))
