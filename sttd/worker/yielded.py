"""What an engine yields, looked at before anything counts on it.

Engines are plug-ins, and no type checker has seen all of them. Whatever is no segment must not be
committed: a committed one says that the recording advances, and frees the job's count of attempts.
Types only; times and texts of the right type are put right later, by `layouts`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sttd.engines import Segment, Word

__all__ = ["checked"]

REMEDY = "docs/engines.md says what an engine yields"
BINARY = (bytes, bytearray)  # msgspec would make text of them, in base64
FIELDS = msgspec.structs.fields(Segment)


def checked(value: object) -> Segment:
    """A plain Segment with what `value` holds. Raises TypeError naming the field, if it is none."""
    if not isinstance(value, Segment):
        raise TypeError(f"the engine yielded {_a(value)}, and no Segment; {REMEDY}")
    return Segment(**{field.name: _field(value, field) for field in FIELDS})


def _field(segment: Segment, field: msgspec.structs.FieldInfo) -> Any:
    value = getattr(segment, field.name)
    try:
        plain = msgspec.convert(msgspec.to_builtins(value, builtin_types=BINARY), field.type)
    except (TypeError, ValueError, OverflowError) as error:
        raise _misfit(field.name, str(error)) from error
    if field.name == "words":
        for word in value:
            if not isinstance(word, Word):
                raise _misfit(field.name, f"expected `Word`, got {_a(word)}")
    return plain


def _misfit(field: str, problem: str) -> TypeError:
    return TypeError(f"the engine yielded a Segment with a wrong `{field}`: {problem}; {REMEDY}")


def _a(value: object) -> str:
    return f"`{type(value).__name__}`"
