"""Every key there is: its dotted name, its type and its default, derived from the sections.

Pure. The one place where the shape of the structs becomes a table of keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sttd.config import conversion, units
from sttd.config.problems import did_you_mean, nearest
from sttd.config.sections import AZURE_DEFAULTS, Settings

# The keys of [engine.azure] beyond the contract's: their types, their defaults and their meaning
# are the engine's own.
AZURE_MORE = (
    "client_id",
    "credential",
    "endpoint_id",
    "language_id",
    "max_objects",
    "max_phrase_ms",
    "pace",
    "phrase_weight",
    "phrases",
    "profanity",
    "properties",
    "proxy",
    "proxy_credential",
    "resource_id",
    "resume",
    "scope",
    "segmentation_silence_ms",
    "stall_timeout",
)
FREE = "engine.options"  # a table whose keys are the plug-in's
_NOT_KEYS = ("origins", "warnings")


class Key(msgspec.Struct, frozen=True):
    """A key: its type as `conversion` takes it (None: whatever comes) and its default."""

    kind: Any
    default: object


def _of(struct: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, Key]]:
    for field in msgspec.structs.fields(struct):
        name = prefix + field.name
        if field.name in _NOT_KEYS or name == FREE:
            continue
        if name == "engine.azure":
            for key, default in AZURE_DEFAULTS.items():
                kind = tuple[str, ...] if isinstance(default, tuple) else type(default)
                yield f"{name}.{key}", Key(kind, default)
            for key in AZURE_MORE:
                yield f"{name}.{key}", Key(None, msgspec.UNSET)
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _of(field.type, f"{name}.")
        else:
            yield name, Key(field.type, field.default)


KEYS: Mapping[str, Key] = dict(_of(Settings, ""))
TABLES = frozenset(name.rpartition(".")[0] for name in KEYS) | {FREE}


def key_of(name: str) -> Key | None:
    """The key of that dotted name; None where there is none."""
    if name.startswith(f"{FREE}."):  # the rest is one name, dots and all
        return Key(None, msgspec.UNSET)
    return KEYS.get(name)


def siblings(table: str) -> tuple[str, ...]:
    """The names directly beneath a table ("" is the top), tables among them."""
    prefix = f"{table}." if table else ""
    known = {*KEYS, *TABLES} - {""}
    return tuple(
        sorted({name[len(prefix) :].split(".")[0] for name in known if name.startswith(prefix)})
    )


def suggestion(table: str, part: str) -> str:
    """A remedy for a key that is not known: the one meant, here or elsewhere, or all there are."""
    elsewhere = [name for name in KEYS if name.rpartition(".")[2] == part]
    if len(elsewhere) == 1:
        return did_you_mean(elsewhere[0])
    prefix = f"{table}." if table else ""
    known = siblings(table)
    near = nearest(part, known)
    return did_you_mean(prefix + near) if near else f"known here are {', '.join(known)}"


def flatten(settings: Settings) -> dict[str, object]:
    """Every effective value by its dotted key, in the order of the sections."""
    values: dict[str, object] = {}
    for name in KEYS:
        value: object = settings
        for part in name.split("."):
            if isinstance(value, Mapping):
                value = value.get(part, msgspec.UNSET)
            else:
                value = getattr(value, part)
        if value is not msgspec.UNSET:
            values[name] = value
    for option, value in settings.engine.options.items():
        values[f"{FREE}.{option}"] = value
    return values


def text_of(name: str, value: object) -> object:
    """A value as the file would have it: sizes and times with their units, paths as text."""
    key = key_of(name)
    unit = conversion.unit_of(key.kind) if key else ""
    if unit == "size":
        assert isinstance(value, int)
        return units.format_size(value)
    if unit == "seconds":
        assert isinstance(value, float)
        return units.format_seconds(value)
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
