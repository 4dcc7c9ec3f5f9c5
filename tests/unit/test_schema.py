"""The JSON Schema takes what the loader takes, and refuses what it refuses, one value at a time."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import schema
from sttd.config.conversion import ValueProblem, convert, unit_of
from sttd.config.rules import SINGLE
from sttd.config.schema import AZURE_MORE, KEYS, TABLES
from sttd.engines.azure.settings import Settings as Azure
from tests.unit.test_config_problems import WRONG

ROOT = Path(__file__).parents[2]
SHIPPED = json.loads((ROOT / "etc" / "sttd.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SHIPPED)
CHECKED = {name: key for name, key in KEYS.items() if key.kind is not None}

# Mistakes that only two keys together, or the loader alone, can show.
BEYOND = (
    "one inside the other",
    "must not hold state_dir",
    "is above",
    "is longer than",
    "is the same as",
    "a tcp endpoint needs",
)


def nested(name: str, value: object) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def loader_takes(name: str, value: object) -> bool:
    try:
        converted = convert(value, KEYS[name].kind)
        SINGLE.get(name, lambda same: same)(converted)
    except ValueProblem:
        return False
    return True


def schema_takes(name: str, value: object) -> bool:
    return bool(VALIDATOR.is_valid(nested(name, value)))


def test_the_schema_in_the_tree_is_the_one_that_the_source_makes() -> None:
    assert (ROOT / "etc" / "sttd.schema.json").read_text() == schema.text(), "run: make schema"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SHIPPED)


def test_the_shipped_configuration_is_valid() -> None:
    VALIDATOR.validate(tomllib.loads((ROOT / "etc" / "sttd.toml").read_text()))


def test_the_shipped_configuration_names_the_schema_for_editors() -> None:
    first = (ROOT / "etc" / "sttd.toml").read_text().splitlines()[0]
    assert first == "#:schema ./sttd.schema.json"
    assert (ROOT / "etc" / first.partition("./")[2]).exists()


def test_it_has_every_key_with_what_it_means() -> None:
    leaves = schema.leaves()
    assert leaves.keys() == KEYS.keys()
    assert [name for name, leaf in leaves.items() if not leaf["description"]] == []
    assert [name for name, leaf in leaves.items() if "default" not in leaf] == []


def test_every_default_is_valid() -> None:
    assert [n for n, leaf in schema.leaves().items() if not schema_takes(n, leaf["default"])] == []


def test_every_rule_of_a_single_key_has_its_counterpart() -> None:
    assert schema.RULES.keys() == SINGLE.keys()


@pytest.mark.parametrize("table", sorted(TABLES - {"", "engine.options"}))
def test_an_unknown_key_is_refused_in_every_table(table: str) -> None:
    assert not schema_takes(f"{table}.zzzz", 1)
    assert not schema_takes(table, 3)


def test_options_of_a_plug_in_are_free() -> None:
    assert schema_takes("engine.options.what.ever", [1])


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[text for text, _ in WRONG])
def test_what_the_loader_refuses_the_schema_refuses(text: str, said: str) -> None:
    if any(words in said for words in BEYOND):
        pytest.skip("takes two keys to see")
    given_ = json.loads(json.dumps(tomllib.loads(text), default=str))
    assert not VALIDATOR.is_valid(given_), said


# What people write, and near misses of it; each is tried on every key. (Not 2.0 for a whole number:
# to JSON Schema it is one.)
VALUES: tuple[object, ...] = (
    *(0, 1, 2, 65_535, 65_536, 1 << 20, 1 << 40, 1 << 63, -1, 0.0005, 0.25, 2.5, -0.5),
    *(True, False, "", " ", "0", "1", "64", "4096", "2.5", "0.5", "-1", "1e3", "x", "auto"),
    *("0s", "0.5ms", "1ms", "250ms", "0.0005s", "2s", "90 s", " 15min ", "7d", "0.000d", "\u0663s"),
    *("90sec", "2m", "0B", "10B", "2.5B", "1KiB", "64KiB", "63.9KiB", "512MiB", "1.5GiB", "1gb"),
    *("60%", "0%", "100%", "100.5%", "060 %", "0.5%", "600%", "4GiB", "0GiB", "2MB", "900"),
    *([], ["wav"], [".WAV"], ["tar.gz"], ["json"], [""], [3], ["json", "srt"], ["strt"], ["a", 1]),
    *(["/a"], ["a"], ["/a", "b"], ["example.com"], ["*.example.com"], ["https://x.org/"]),
    *(["en-US"], ["x.example.com", "*"]),
    *(["job.failed"], ["notify.failed"], ["job.fail"], {}, {"a": 1}),
    *("/", ".", "..", "./", "/srv", "srv/x", "../x", "spool", "spool/in", "./spool", "spools"),
    *("json", "console", "warn", "warning", "keep", "delete", "entra", "key", "none"),
    *("ipc:///run/x.sock", "ipc:///run/", "ipc:///", "ipc://x", "ipc:///" + "x" * 106),
    *("ipc:///" + "x" * 107, "tcp://127.0.0.1:5555", "tcp://127.0.0.1", "tcp://*:0", "tcp://x:99999"),
    *("127.0.0.1:9465", "[::1]:9465", "::1:9465", "9465", "x:65535", "x:65536", "x/y:1"),
    *("speech-key", "a b", "0" * 32, "a" * 40, "a" * 84, "a" * 41, "-x", "azure", "a.b:C", "a b:C"),
    *("http://x", "https://x/y?z=1", "ftp://x", "http://", "https://x y"),
)  # fmt: skip


@pytest.mark.parametrize("name", CHECKED)
def test_schema_and_loader_agree_on_what_people_write(name: str) -> None:
    differ = [v for v in VALUES if schema_takes(name, v) != loader_takes(name, v)]
    assert differ == []


QUANTITIES = st.builds(
    lambda number, gap, unit: f"{number}{gap}{unit}",
    st.one_of(st.integers(0, 30_000), st.decimals(0, 9999, places=2)),
    st.sampled_from(["", " "]),
    st.sampled_from(["", "B", "KiB", "MiB", "GiB", "kB", "ms", "s", "min", "h", "d", "x"]),
)
OF_UNIT = [name for name in CHECKED if unit_of(KEYS[name].kind)]


@given(
    st.sampled_from([n for n in OF_UNIT if unit_of(KEYS[n].kind) != "budget"]),
    st.one_of(QUANTITIES, st.integers(-1, 1 << 40), st.floats(-1, 1e9), st.text(max_size=5)),
)
def test_they_agree_on_any_quantity(name: str, value: object) -> None:
    assert schema_takes(name, value) == loader_takes(name, value)


@given(st.integers(0, 101), st.integers(1 << 20, 1 << 50))
def test_they_agree_on_shares_and_on_budgets(share: int, size: int) -> None:
    for value in (f"{share}%", f"{share}.5%", share, str(share), size, f"{size}B"):
        name = "pool.memory_budget"
        assert schema_takes(name, value) == loader_takes(name, value), value


def test_further_keys_of_azure_have_the_types_of_the_engine() -> None:
    assert schema_takes("engine.azure.pace", 4)
    assert schema_takes("engine.azure.stall_timeout", "50s")
    assert schema_takes("engine.azure.properties", {"a": "b"})
    assert not schema_takes("engine.azure.pace", "fast")
    assert not schema_takes("engine.azure.language_id", "once")
    assert set(AZURE_MORE) < set(Azure.__struct_fields__)
