"""Sizes, times and shares as people write them: "512MiB", "90s", "60%" to bytes and seconds.

Pure text to number and back. Knows no key and no file: whoever calls names them.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

SIZES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
TIMES = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
LARGEST = (1 << 63) - 1  # bytes; what SQLite and the kernel's file offsets hold
LONGEST = 36_500 * 86400.0  # seconds; a century, far inside what timers accept
SMALLEST_BUDGET = 1 << 20  # bytes; anything less is a percentage without its sign

_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z%]*)\s*", re.ASCII)


class UnitError(ValueError):
    """The text is no such quantity; the message says what would be."""


def parse_size(value: object) -> int:
    """Bytes from 4096, "4096" or "512MiB"; raises UnitError."""
    what = 'a size such as "512MiB", "1GB" or a number of bytes'
    number, unit = _split(value, what)
    if unit and unit not in SIZES:
        raise UnitError(_unknown_unit(unit, SIZES, what))
    size = number * SIZES.get(unit, 1)
    if unit in ("", "B") and size.denominator != 1:
        raise UnitError(f"must be {what}; there are no parts of a byte")
    if size > LARGEST:
        raise UnitError(f"must be at most {LARGEST} bytes")
    return int(size)


def parse_seconds(value: object) -> float:
    """Seconds from 90, 0.25, "90", "250ms", "15min", "7d"; raises UnitError."""
    what = 'a time such as "90s", "15min", "6h", "7d" or a number of seconds'
    number, unit = _split(value, what)
    if unit and unit not in TIMES:
        raise UnitError(_unknown_unit(unit, TIMES, what))
    seconds = float(number * TIMES.get(unit, Fraction(1)))
    if seconds > LONGEST:
        raise UnitError('must be at most "36500d"')
    return seconds


def parse_budget(value: object) -> str:
    """A share ("60%") or a size, checked and without spaces; raises UnitError."""
    what = 'a percentage such as "60%" or a size such as "4GiB"'
    number, unit = _split(value, what)
    if unit == "%":
        if not 0 < number <= 100:
            raise UnitError("must be more than 0% and at most 100%")
        return f"{format_number(float(number))}%"
    if parse_size(value) < SMALLEST_BUDGET:
        raise UnitError(f"must be {what}; this is less than 1MiB, too little for any worker")
    return "".join(str(value).split())


def budget_bytes(text: str, total: int) -> int:
    """Bytes of a budget, given the bytes of the machine or the cgroup; never more than those."""
    text = parse_budget(text)
    if text.endswith("%"):
        return int(Fraction(text[:-1]) * total / 100)
    return min(parse_size(text), total)


def format_size(size: int) -> str:
    """The shortest text that parses to the same bytes: "512MiB"."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % SIZES[unit] == 0:
            return f"{size // SIZES[unit]}{unit}"
    return str(size)


def format_seconds(seconds: float) -> str:
    """A short text that parses to the same seconds: "15min", "60s"."""
    for unit, least in (("d", 86400.0), ("h", 3600.0), ("min", 120.0)):
        if seconds >= least and seconds % float(TIMES[unit]) == 0:
            return f"{int(seconds / float(TIMES[unit]))}{unit}"
    return f"{format_number(seconds)}s"


def format_number(number: float) -> str:
    """Digits without an exponent, and without a fraction where there is none."""
    if number.is_integer():
        return str(int(number))
    text = repr(number)
    return text if "e" not in text else f"{number:.20f}".rstrip("0")


def _split(value: object, what: str) -> tuple[Fraction, str]:
    """The number and its unit ("" where there is none)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnitError(f"must be {what}")
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        if match is None:
            raise UnitError(f"must be {what}")
        return Fraction(match[1]), match[2]
    if not math.isfinite(value) or value < 0:
        raise UnitError(f"must be {what}, not negative and not infinite")
    return Fraction(value), ""


def _unknown_unit(unit: str, known: dict[str, int] | dict[str, Fraction], what: str) -> str:
    """What is wrong with the unit, and which one was probably meant."""
    near = {"m": ("MiB" if "MiB" in known else "min"), "k": "KiB", "g": "GiB", "b": "B"}
    near |= {"mb": "MB", "kb": "kB", "gb": "GB", "mib": "MiB", "kib": "KiB", "gib": "GiB"}
    near |= {"sec": "s", "secs": "s", "minutes": "min", "mins": "min", "hours": "h", "days": "d"}
    near |= {name.lower(): name for name in known}
    meant = near.get(unit.lower(), "")
    hint = f'did you mean "{meant}"?' if meant in known else f"units are {', '.join(known)}"
    return f'must be {what}; "{unit}" is no unit, {hint}'
