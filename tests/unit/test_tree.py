"""The promises the source tree makes to whoever opens it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "sttd").rglob("*.py"))
MOST_LINES = 350  # of a module
MOST_LINES_OF_A_FUNCTION = 50

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Name and length of every function, nested ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_the_tree_is_where_this_test_looks() -> None:
    assert len(MODULES) > 50


@each_module
def test_every_module_says_what_it_does(path: Path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text()))
    assert told, f"{path} has no docstring"


@each_module
def test_no_module_is_too_long_to_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


@each_module
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    long = [
        (n, k) for n, k in functions(ast.parse(path.read_text())) if k > MOST_LINES_OF_A_FUNCTION
    ]
    assert long == []
