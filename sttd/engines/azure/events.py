"""What the SDK's callbacks report: a closed set of values, put on a queue and nothing else."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Connected:
    """The websocket stands, for the first time or again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Disconnected:
    """The websocket is gone; the SDK reconnects by itself where it makes sense."""


@dataclasses.dataclass(frozen=True, slots=True)
class Phrase:
    """A final phrase, as the service's JSON."""

    json: str


@dataclasses.dataclass(frozen=True, slots=True)
class Canceled:
    """`reason` is a CancellationReason, `code` a CancellationErrorCode of the SDK."""

    reason: int
    code: int
    details: str


@dataclasses.dataclass(frozen=True, slots=True)
class Stopped:
    """The session is over; whether well is not said."""


@dataclasses.dataclass(frozen=True, slots=True)
class Broken:
    """An exception inside a callback of the SDK: an event was lost."""

    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """The feed has room again."""


Event = Connected | Disconnected | Phrase | Canceled | Stopped | Broken | Room
