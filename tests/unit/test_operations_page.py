"""docs/operations.md promises a proof for every failure: each row of its table names a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
TABLE = PAGE.split("## When something fails")[1].split("\n## ")[0]
ROWS = [line for line in TABLE.splitlines() if line.startswith("| ")][2:]
NAMED = [
    ("docs/operations.md", TABLE),
    ("docs/reliability.md", (ROOT / "docs" / "reliability.md").read_text()),
]


def failure(row: str) -> str:
    return row.split(" | ", maxsplit=1)[0].removeprefix("| ")


@pytest.mark.parametrize("row", ROWS, ids=failure)
def test_every_row_says_four_things_and_names_its_test(row: str) -> None:
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    assert len(cells) == 5
    assert all(cells)
    assert re.fullmatch(r"`test_\w+`", cells[-1])


@pytest.mark.parametrize(("page", "text"), NAMED, ids=[page for page, _ in NAMED])
def test_every_test_that_is_named_is_written(page: str, text: str) -> None:
    tests = ROOT / "tests"
    written = "\n".join(path.read_text() for path in tests.rglob("test_*.py"))
    files = {path.name for path in tests.rglob("test_*.py")}
    named = set(re.findall(r"`(test_\w+)`", text))
    assert {name for name in named if f"def {name}(" not in written} == set(), page
    assert {name for name in re.findall(r"`(test_\w+\.py)`", text) if name not in files} == set()


def test_the_table_has_the_failures_that_operators_meet() -> None:
    text = " ".join(map(failure, ROWS))
    for word in ("disk", "quota", "power", "memory", "ledger", "inbox", "clock", "suspended"):
        assert word in text
    for word in ("supervisor", "wall", "credentials", "notifications", "configuration"):
        assert word in text
