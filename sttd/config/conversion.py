"""One value of the configuration to the type its key has, or a sentence saying what is needed.

Pure. Knows types and units, and no key: what a value must be beyond its type is in `rules`.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from sttd.config import units
from sttd.config.problems import did_you_mean, nearest

_PARSERS: dict[str, Callable[[object], object]] = {
    "size": units.parse_size,
    "seconds": units.parse_seconds,
    "budget": units.parse_budget,
}
_SWITCHES = {"true": True, "yes": True, "on": True, "1": True}
_SWITCHES |= {"false": False, "no": False, "off": False, "0": False}


class ValueProblem(ValueError):  # noqa: N818 (a problem, of which a ConfigError has many)
    """The value does not fit its key; `remedy` may be empty."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def convert(value: object, kind: Any) -> Any:
    """The value as `kind`, a type as `sections` uses them; raises ValueProblem."""
    unit = unit_of(kind)
    try:
        if unit:
            return _PARSERS[unit](value)
        if kind is Path:
            return Path(msgspec.convert(value, str))
        return msgspec.convert(value, kind)
    except units.UnitError as error:
        raise ValueProblem(str(error)) from None
    except msgspec.ValidationError:
        choices = _choices(kind)
        wrong = next((v for v in _each(value) if isinstance(v, str) and v not in choices), None)
        remedy = did_you_mean(nearest(wrong or "", choices))
        raise ValueProblem(f"must be {describe(kind)}", remedy) from None


def from_text(text: str, kind: Any) -> object:
    """What a variable of the environment says, as TOML would have said it; still to be converted.

    Plain text needs no quotes; numbers, switches, lists and tables are written as in TOML.
    """
    if unit_of(kind) or kind in (str, Path):
        return text
    if kind is bool:
        return _SWITCHES.get(text.strip().lower(), text)
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def unit_of(kind: Any) -> str:
    """The unit of a type as `core.units` marks it: size, seconds, budget; "" for none."""
    if get_origin(kind) is Annotated:
        for meta in kind.__metadata__:
            if isinstance(meta, msgspec.Meta) and meta.extra:
                return str(meta.extra.get("unit", ""))
    return ""


def describe(kind: Any) -> str:
    """What a value of this type is, in words: "a whole number of at least 1"."""
    unit = unit_of(kind)
    if unit:
        return {"size": "a size", "seconds": "a time", "budget": "a percentage or a size"}[unit]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        least = next((m.ge for m in kind.__metadata__ if isinstance(m, msgspec.Meta)), None)
        return describe(arguments[0]) + (f" of at least {least}" if least is not None else "")
    if origin is Literal:
        return " or ".join(f'"{each}"' for each in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(each) for each in arguments)
    if origin is tuple:
        inner = _choices(kind)
        return "a list of " + (", ".join(f'"{each}"' for each in inner) if inner else "texts")
    plain = {
        str: "a text in quotes",
        Path: "a path in quotes",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
    }
    return plain.get(kind, "a table" if origin is Mapping or kind is dict else "a value")


def _choices(kind: Any) -> tuple[str, ...]:
    """The texts a Literal (or a list or union of such) allows."""
    if get_origin(kind) is Literal:
        return tuple(str(each) for each in get_args(kind))
    return tuple(each for argument in get_args(kind) for each in _choices(argument))


def _each(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)
