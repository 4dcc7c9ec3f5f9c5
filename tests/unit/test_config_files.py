"""The shipped configuration and its manual say what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from sttd.config import Settings, load
from sttd.config.environment import variable_of
from sttd.config.rules import SINGLE
from sttd.config.schema import AZURE_MORE, KEYS, flatten, text_of
from sttd.config.sections import AZURE_DEFAULTS
from sttd.core.recycling import RecyclePolicy
from sttd.core.retry import RetryPolicy

ROOT = Path(__file__).parents[2]
NOWHERE = Path("/nonexistent/etc/sttd")
WITH_DEFAULT = [name for name, key in KEYS.items() if key.default is not msgspec.UNSET]


def test_the_shipped_file_parses_to_exactly_the_defaults() -> None:
    shipped = load(ROOT / "etc/sttd.toml", {}, NOWHERE)
    assert msgspec.structs.replace(shipped, origins={}) == Settings()


def test_the_shipped_file_has_every_key() -> None:
    origins = load(ROOT / "etc/sttd.toml", {}, NOWHERE).origins
    assert [name for name in WITH_DEFAULT if origins[name] == "default"] == []


def test_every_key_of_the_shipped_file_stands_where_its_origin_says() -> None:
    lines = (ROOT / "etc/sttd.toml").read_text().splitlines()
    for name, origin in load(ROOT / "etc/sttd.toml", {}, NOWHERE).origins.items():
        if origin != "default":
            assert lines[int(origin.rpartition(":")[2]) - 1].startswith(name.rpartition(".")[2])


def test_the_example_of_an_environment_sets_nothing_unknown() -> None:
    text = (ROOT / "etc/sttd.env.example").read_text()
    examples = re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE)
    environ = {name: value for name, value in examples if name != "STTD_CONFIG"}
    loaded = load(environ=environ, etc=NOWHERE)
    assert loaded.warnings == ()
    assert loaded.pool.workers == 4


def rows() -> dict[str, list[str]]:
    """The manual's rows by variable: the cells of each."""
    table = {}
    for line in (ROOT / "docs/configuration.md").read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("| ").split(" | ")]
        if len(cells) == 5 and cells[3].startswith("STTD_"):
            table[cells[3]] = cells
    return table


@pytest.mark.parametrize("name", WITH_DEFAULT)
def test_the_manual_has_every_key_with_its_default(name: str) -> None:
    key, _kind, default, variable, meaning = rows()[variable_of(name)]
    assert key == name.rpartition(".")[2]
    value = text_of(name, KEYS[name].default)
    assert default == (
        "true" if value is True else "false" if value is False else json.dumps(value)
    )
    assert variable == variable_of(name)
    assert meaning.endswith(".")


def test_the_manual_has_no_key_that_is_not_there() -> None:
    assert rows().keys() == {variable_of(name) for name in WITH_DEFAULT}


def test_the_manual_names_the_further_keys_of_azure() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    assert [key for key in AZURE_MORE if f"`{key}`" not in text] == []


def test_keys_of_azure_are_those_that_the_engine_knows() -> None:
    engine = pytest.importorskip("sttd.engines.azure.settings")
    assert {*AZURE_DEFAULTS, *AZURE_MORE} == set(engine.Settings.__struct_fields__)


def test_every_default_passes_its_own_rule() -> None:
    values = flatten(Settings())
    assert {name: SINGLE[name](values[name]) for name in SINGLE} == {
        name: values[name] for name in SINGLE
    }


def test_the_policies_of_the_core_are_the_sections() -> None:
    assert isinstance(Settings().recycle, RecyclePolicy)
    assert isinstance(Settings().retry, RetryPolicy)
