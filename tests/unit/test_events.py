"""The catalogue of events, its page, and what the code says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sttd.events import ALWAYS, EVENTS, FIELDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/events.md"
CONTRACT = """
daemon.started|ready|draining|drained|stopped|degraded|recovered
worker.spawned|ready|retiring|recycled|killed|exited
job.accepted|started|progress|succeeded|failed|requeued|deferred|cancelled|quarantined|resumed
config.reloaded
inbox.rejected
"""
LIFE = {"worker", "pid", "reason", "requests", "rss_bytes", "age_s"}


def rows() -> Iterator[list[str]]:
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_has_every_event_with_its_level_fields_and_meaning() -> None:
    page = {names(row[0])[0]: row[1:] for row in rows() if len(row) == 4}
    assert list(page) == list(EVENTS)
    for name, event in EVENTS.items():
        level, fields, meaning = page[name]
        assert re.findall(r"\w+", level)[0] == event.level, name
        if event.when:
            assert (
                level
                == f"{event.level} ({event.when[2]} when `{event.when[0]}` is `{event.when[1]}`)"
            )
        assert set(names(fields)) == event.fields, name
        assert meaning == event.help, name


def test_the_page_has_every_field_with_its_meaning() -> None:
    assert {names(row[0])[0]: row[1] for row in rows() if len(row) == 2} == FIELDS


def test_every_field_has_a_meaning_and_a_use() -> None:
    used = {field for event in EVENTS.values() for field in event.fields}
    assert used == FIELDS.keys()
    assert used.isdisjoint(ALWAYS)


def test_the_events_of_the_contract_are_there() -> None:
    for line in CONTRACT.split():
        family, _, rest = line.partition(".")
        for name in rest.split("|"):
            assert f"{family}.{name}" in EVENTS


@pytest.mark.parametrize("name", ["retiring", "recycled", "killed", "exited"])
def test_the_end_of_a_worker_tells_its_life(name: str) -> None:
    assert EVENTS[f"worker.{name}"].fields >= LIFE


def test_a_level_may_depend_on_a_field() -> None:
    assert EVENTS["worker.exited"].level_of({"reason": "crashed"}) == "warning"
    assert EVENTS["worker.exited"].level_of({"reason": "max_age"}) == "info"
    assert EVENTS["worker.exited"].level_of({}) == "info"


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """Where an event is told by name in the code: place, name, the fields that can be seen."""
    for path in sorted((ROOT / "sttd").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            first = node.args[0]
            told = called in ("event", "Announce", "_announce")
            if told and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield f"{path.name}:{node.lineno}", first.value, _seen(node)


def _seen(call: ast.Call) -> set[str]:
    fields = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    for argument in call.args[1:]:
        if isinstance(argument, ast.Dict):
            fields |= {key.value for key in argument.keys if isinstance(key, ast.Constant)}  # type: ignore[misc]  # field names are texts
    return fields


def test_whatever_the_code_tells_is_in_the_catalogue() -> None:
    found = list(calls())
    unknown = [(where, name) for where, name, _ in found if name not in EVENTS]
    assert unknown == []
    wrong = [(where, name, seen - EVENTS[name].fields) for where, name, seen in found]
    assert [each for each in wrong if each[2]] == []
    assert len(found) > 10


def test_whatever_is_in_the_catalogue_is_told_somewhere() -> None:
    code = "".join(
        path.read_text()
        for path in sorted((ROOT / "sttd").rglob("*.py"))
        if path != ROOT / "sttd/events.py"
    )
    assert [name for name in EVENTS if f'"{name}"' not in code] == []
