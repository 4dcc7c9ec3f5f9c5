"""Moments as people type them: `2026-01-31T12:00`, or so long ago, `10min`. Pure, but for `now`."""

from __future__ import annotations

import datetime as dt
import re

import click

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)?")


def instant(text: str, now: dt.datetime | None = None, option: str = "--since") -> str:
    """UTC as the protocol has it, from a time (local unless it says so) or from `2h`."""
    span = _SPAN.fullmatch(text.strip())
    try:
        if span is not None:
            ago = dt.timedelta(seconds=float(span[1]) * _UNITS[span[2] or "s"])
            moment = (now or dt.datetime.now(dt.UTC)) - ago
        else:
            moment = dt.datetime.fromisoformat(text.strip()).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(
            f"{option} {text!r}: a time as 2026-01-31T12:00, or a span as 90s, 10min, 2h, 7d"
        ) from error
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
