"""A job's life in lines: what happened, how long after the last thing, and why. Needs rich.

Shapes only. An event that it does not know is shown as it is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from sttd.ctl import human
from sttd.wire.views import EventView

STYLES = {
    "succeeded": "green",
    "failed": "bold red",
    "quarantined": "bold red",
    "deferred": "yellow",
    "requeued": "yellow",
    "damaged": "yellow",
    "cancelled": "dim",
}
_HIDDEN = frozenset({"timestamp", "event", "level", "job", "source"})


def table(events: Iterable[EventView]) -> Table:
    """The events, oldest first, one a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(style="dim", justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    before: dt.datetime | None = None
    for event in events:
        moment = dt.datetime.fromisoformat(str(event["timestamp"]))
        name = str(event["event"]).removeprefix("job.")
        grid.add_row(
            human.local(str(event["timestamp"])),
            "" if before is None else f"+{human.span((moment - before).total_seconds())}",
            Text(human.plain(name), style=STYLES.get(name, "bold")),
            human.plain(tell(name, event)),
        )
        before = moment
    return grid


def tell(name: str, event: EventView) -> str:
    """What an event says, in words."""
    try:
        return _WORDS[name](event)
    except (KeyError, TypeError, ValueError):  # another version's, or none of ours
        fields = ((key, value) for key, value in event.items() if key not in _HIDDEN)
        return " ".join(f"{key}={value}" for key, value in fields if value is not None)


def _accepted(event: EventView) -> str:
    way = {"inbox": "from the inbox", "control": "submitted", "url": "fetched"}[str(event["kind"])]
    parts = [way, human.size(_int(event["bytes"]))]
    if event.get("priority"):
        parts.append(f"priority {event['priority']}")
    key = str(event.get("key") or "")
    if key and not key.startswith("client/"):  # those are made by clients for themselves
        parts.append(f"key {key}")
    return ", ".join(parts)


def _run(event: EventView) -> str:
    worker = f" on {event['worker']}" if event.get("worker") else ""
    return f"attempt {event['attempt']}{worker}"


def _ended(event: EventView) -> str:
    return f"{_run(event)}: {event['code']}: {event['message']}"


def _again(event: EventView) -> str:
    if event["code"] == "retry":
        return str(event["message"])
    delay = float(str(event["delay_s"]))
    return f"{_ended(event)}; again {f'in {human.span(delay)}' if delay else 'at once'}"


def _resumed(event: EventView) -> str:
    before = event.get("segments")  # not known of a job that ran when the daemon was killed
    said = "what was heard" if before is None else human.count(_int(before), "segment")
    return f"{_run(event)}: goes on behind {said}"


def _succeeded(event: EventView) -> str:
    outputs = event["outputs"]
    files = human.count(len(outputs), "file") if isinstance(outputs, list | tuple) else ""
    audio = human.clock(float(str(event["duration_s"])))
    return f"{_run(event)}: {audio} of audio, {files}"


def _int(value: object) -> int:
    return int(str(value))


_WORDS: dict[str, Callable[[Any], str]] = {
    "accepted": _accepted,
    "started": _run,
    "resumed": _resumed,
    "requeued": _again,
    "deferred": _again,
    "quarantined": _ended,
    "failed": _ended,
    "succeeded": _succeeded,
    "cancelled": lambda _event: "by request",
    "damaged": lambda event: str(event["message"]),
    "clamped": lambda event: (
        f"{human.count(_int(event['segments']), 'segment')} cut to fit the recording"
    ),
}
