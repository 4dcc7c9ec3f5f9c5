"""Numbers as people read them: sizes, ages, times. Pure."""

from __future__ import annotations

import datetime as dt

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size(count: int) -> str:
    """Bytes as `40 MiB`: three digits at most before the unit."""
    value, power = float(count), 0
    while value >= 999.5 and power < len(_SIZES) - 1:
        value /= 1024
        power += 1
    digits = 1 if power and value < 9.95 else 0
    return f"{value:.{digits}f} {_SIZES[power]}"


def change(count: int) -> str:
    """A difference in bytes as `+40 MiB` or `-1.2 KiB`; `0 B` for none."""
    sign = "+" if count > 0 else "-" if count < 0 else ""
    return sign + size(abs(count))


def short(seconds: float) -> str:
    """A latency as `3.2 ms`; from a second on as a span."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else span(seconds)


def pace(speed: float | None, left_s: float | None) -> str:
    """`2.0 x real time, 12 s left`; what is not known is left out."""
    parts = [] if speed is None else [f"{speed:.1f} x real time"]
    if left_s is not None:
        parts.append(f"{span(left_s)} left")
    return ", ".join(parts)


def span(seconds: float) -> str:
    """Seconds as `1 h 5 min`: the two largest units that say anything."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    left = round(seconds)
    parts: list[tuple[int, str]] = []
    for length, unit in _SPANS:
        count, left = divmod(left, length)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)


def clock(seconds: float) -> str:
    """A place in a recording as `1:02:03`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def ago(instant: str | None, now: dt.datetime) -> str:
    """A moment of the protocol as `5 min ago`; nothing for None."""
    if instant is None:
        return ""
    return f"{span((now - dt.datetime.fromisoformat(instant)).total_seconds())} ago"


def local(instant: str) -> str:
    """A moment of the protocol in the local time zone, to the millisecond."""
    moment = dt.datetime.fromisoformat(instant).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def toml(value: object) -> str:
    """As the file would have it; a JSON string, list or number is the same in TOML."""
    import json  # noqa: PLC0415 - for people alone

    return json.dumps(value, ensure_ascii=False)


def plain(text: str) -> str:
    r"""Text from outside, safe for a terminal: control characters show as `\xNN`."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
