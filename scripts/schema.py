"""`make schema`: etc/sttd.schema.json, the configuration as a JSON Schema (2020-12), for editors.

    python -m scripts.schema

Types and defaults are the configuration's own table of keys, further keys of [engine.azure] the
engine's, explanations those of etc/sttd.toml. A schema sees one value at a time: what depends on
two keys, on the machine or on exact sums of units is left to `sttd check-config`.
"""

from __future__ import annotations

import json
import re
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from scripts import shipped
from sttd.config import rules, units
from sttd.config.conversion import unit_of
from sttd.config.schema import AZURE_MORE, FREE, KEYS, text_of
from sttd.config.sections import Settings
from sttd.engines.azure.settings import Settings as Azure
from sttd.events import EVENTS

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "etc" / "sttd.schema.json"

Schema = dict[str, Any]

NUMBER = r"0*[0-9]+(\.[0-9]+)?"
ZERO = r"0+(\.0+)?"
WHOLE = r"[0-9]+(\.0+)?"


def _text(*alternatives: str) -> Schema:
    return {"type": "string", "pattern": "^(" + "|".join(alternatives) + ")$"}


def _quantity(number: str, *names: str) -> str:
    """A number with one of the units, and spaces where they are allowed."""
    return rf"[ \t]*{number}[ \t]*({'|'.join(names)})[ \t]*"


# -- types -------------------------------------------------------------------------------------
def _size() -> Schema:
    larger = [name for name in units.SIZES if name != "B"]
    text = _text(_quantity(WHOLE, "B", ""), _quantity(NUMBER, *larger))
    return {"anyOf": [{"type": "integer", "minimum": 0, "maximum": units.LARGEST}, text]}


def _seconds() -> Schema:
    number = {"type": "number", "minimum": 0, "maximum": units.LONGEST}
    return {"anyOf": [number, _text(_quantity(NUMBER, *units.TIMES, ""))]}


def _budget() -> Schema:
    """At least 1 MiB, as near as digits tell; a bare number below that is a share without its %."""
    number = {"type": "integer", "minimum": units.SMALLEST_BUDGET, "maximum": units.LARGEST}
    share = rf"(?!{ZERO}[ \t]*%)0*(100(\.0+)?|[0-9]{{1,2}}(\.[0-9]+)?)"
    sizes = (
        _quantity(share, "%"),
        _quantity(r"0*[1-9][0-9]{6,}(\.0+)?", "B", ""),
        _quantity(r"0*[1-9][0-9]{3,}(\.[0-9]+)?", "kB", "KiB"),
        _quantity(r"0*[1-9][0-9]*(\.[0-9]+)?", "MiB", "MB"),
        _quantity(rf"(?!{ZERO}[ \t]*G){NUMBER}", "GiB", "GB"),
    )
    return {"anyOf": [number, _text(*sizes)]}


def of_type(kind: Any) -> Schema:
    """A type as the configuration's sections use them."""
    unit = unit_of(kind)
    if unit:
        return {"size": _size, "seconds": _seconds, "budget": _budget}[unit]()
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        least = next(meta.ge for meta in kind.__metadata__ if isinstance(meta, msgspec.Meta))
        return of_type(arguments[0]) | {"minimum": least}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [of_type(each) for each in arguments]}
    if origin is tuple:
        return {"type": "array", "items": of_type(arguments[0])}
    return {"type": {bool: "boolean", int: "integer"}.get(kind, "string")}


# -- rules -------------------------------------------------------------------------------------
_NOT_ZERO: Schema = {
    "not": {"anyOf": [{"const": 0}, _text(_quantity(ZERO, *units.TIMES, *units.SIZES, ""))]}
}
_TOO_SHORT_A_MESSAGE: Schema = {  # rules.SHORTEST_MESSAGE is 64 KiB
    "not": {
        "anyOf": [
            {"type": "integer", "exclusiveMaximum": rules.SHORTEST_MESSAGE},
            _text(
                _quantity(r"0*[0-9]{1,4}(\.0+)?", "B", ""),
                _quantity(r"0*([0-9]|[1-5][0-9]|6[0-4])(\.[0-9]+)?", "kB"),
                _quantity(r"0*([0-9]|[1-5][0-9]|6[0-3])(\.[0-9]+)?", "KiB"),
                _quantity(ZERO, *units.SIZES),
            ),
        ]
    }
}
_TOO_SHORT_A_SAMPLE: Schema = {  # rules.SHORTEST_SAMPLE is 1 ms
    "not": {
        "anyOf": [
            {"type": "number", "exclusiveMaximum": rules.SHORTEST_SAMPLE},
            _text(
                _quantity(r"0+(\.[0-9]+)?", "ms"),
                _quantity(r"0+\.000[0-9]*", "s", ""),
                _quantity(ZERO, *units.TIMES, ""),
            ),
        ]
    }
}
_PORT = r"0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST_PORT = rf"([^:/]+|\[[^/]+\]):{_PORT}"
_LOOPBACK = r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])"
_IPC = rf"ipc:///(?=.{{0,{rules.LONGEST_IPC_PATH - 1}}}$).*[^/]"
_OURS = "|".join(rules.OURS)
_NOT_AUDIO = "|".join(sorted(rules.NOT_AUDIO))
_BENEATH = rf"^(?!(\./)*({_OURS})(/|$))(?!\.\.)(?!/*$)(?!\.(/|$)*$).+"


def _pattern(rule: re.Pattern[str], *, or_empty: bool = False) -> Schema:
    return {"pattern": f"^({rule.pattern}){'?' * or_empty}$"}


_CREDENTIAL: Schema = {
    **_pattern(rules.CREDENTIAL, or_empty=True),
    "not": _pattern(rules.SECRET_ITSELF),
}

# What `rules.SINGLE` asks of a key beyond its type, as far as a schema can say it.
RULES: dict[str, Schema] = {
    "state_dir": {"pattern": r"^(?!(\.?/)*\.?$)"},
    "inbox.path": {"pattern": _BENEATH},
    "inbox.extensions": {
        "minItems": 1,
        "items": {
            "type": "string",
            "pattern": rf"^\s*\.?(?!({_NOT_AUDIO})\s*$)[^\s./\\]{{1,16}}\s*$",
        },
    },
    "inbox.rescan": _NOT_ZERO,
    "outbox.path": {"pattern": _BENEATH},
    "outbox.formats": {},
    "control.endpoint": {"pattern": rf"^(tcp://{_HOST_PORT}|{_IPC})$"},
    "control.events": {"pattern": rf"^(tcp://{_HOST_PORT}|{_IPC})$"},
    "control.curve_server_key": _CREDENTIAL,
    "control.curve_clients": {"pattern": "^(/|$)"},
    "control.allow_paths": {"items": {"type": "string", "pattern": "^/"}},
    "control.max_message": _TOO_SHORT_A_MESSAGE,
    "pool.allocator": {"pattern": "^(system$|jemalloc$|/)"},
    "recycle.sample_every": _TOO_SHORT_A_SAMPLE,
    "limits.max_file_size": _NOT_ZERO,
    "limits.max_duration": _NOT_ZERO,
    "url.allow_hosts": {"items": {"type": "string", **_pattern(rules.HOST)}},
    "url.timeout": _NOT_ZERO,
    "engine.name": _pattern(rules.ENGINE),
    "engine.azure.key": _CREDENTIAL,
    "metrics.listen": {"pattern": f"^({_LOOPBACK}:{_PORT})?$"},
    "notify.exec": {"prefixItems": [{"type": "string", "pattern": "^/"}]},
    "notify.url": _pattern(rules.ADDRESS, or_empty=True),
    "notify.events": {
        "items": {"enum": [name for name in EVENTS if not name.startswith("notify.")]}
    },
    "notify.timeout": _NOT_ZERO,
}


# -- the whole ---------------------------------------------------------------------------------
def _azure() -> dict[str, Schema]:
    """The further keys of [engine.azure], from the engine's own settings."""
    page = (ROOT / "docs" / "engines-azure.md").read_text()
    said = dict(re.findall(r"^\| `(\w+)`[^|]* \| [^|]* \| (.*) \|$", page, re.MULTILINE))
    said["proxy_credential"] = said["proxy"]
    fields = {field.name: field for field in msgspec.structs.fields(Azure)}
    found = {}
    for name in AZURE_MORE:
        own = _seconds() if name == "stall_timeout" else msgspec.json.schema(fields[name].type)
        default = json.loads(msgspec.json.encode(getattr(Azure(), name)))
        found[f"engine.azure.{name}"] = {
            "description": said.get(name, ""),
            "default": units.format_seconds(default) if name == "stall_timeout" else default,
            **own,
        }
    return found


def leaves() -> dict[str, Schema]:
    """Every key with its schema."""
    said = shipped.explanations((ROOT / "etc" / "sttd.toml").read_text())
    found = {}
    for name, key in KEYS.items():
        if key.kind is not None:
            found[name] = {
                "description": said[name],
                "default": text_of(name, key.default),
                **of_type(key.kind),
                **RULES.get(name, {}),
            }
    return found | _azure()


def schema() -> Schema:
    """The whole schema."""
    titles = {
        section.name: section.title
        for section in shipped.sections((ROOT / "etc" / "sttd.toml").read_text())
    }
    top: Schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sttd.toml",
        "description": "The configuration of sttd. Made by make schema; do not edit.",
        **_table(""),
    }
    for name, leaf in leaves().items():
        table, sofar = top, ""
        *tables, last = name.split(".")
        for part in tables:
            sofar = f"{sofar}.{part}" if sofar else part
            table = table["properties"].setdefault(part, _table(titles.get(sofar, "")))
        table["properties"][last] = leaf
    engine = top["properties"]["engine"]["properties"]
    assert FREE == "engine.options"
    engine["options"] = {"description": "Handed as they are to a plug-in.", "type": "object"}
    assert set(top["properties"]) <= set(Settings.__struct_fields__)
    return top


def _table(title: str) -> Schema:
    said = {"description": title} if title else {}
    return {**said, "type": "object", "additionalProperties": False, "properties": {}}


def text() -> str:
    """The file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
