"""What the local Speech service does to its clients: the script of its faults.

Values only. A plan is a list of behaviours, one for each connection in the order they arrive; the
last holds for all that follow.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Garbage = Literal["", "text", "binary", "overrun", "json", "request_id", "path"]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How one connection is treated; the defaults are a service in good health.

    Times named `_at_s` and `_from_s` are seconds of audio received on this connection.
    """

    status: int = 0  # answered to the upgrade instead of 101
    headers: dict[str, str] = {}  # sent with that status
    hang_upgrade: bool = False  # accepts the connection and never answers
    drop_at_s: float | None = None  # aborts the TCP connection
    close_at_s: float | None = None  # closes the websocket with `close_code`
    close_code: int = 1011
    close_reason: str = "scripted"
    silent_from_s: float | None = None  # says nothing more, reads on
    turn_start: bool = True  # False: never sends turn.start
    turn_end: bool = True  # False: never sends turn.end
    drop_at_end: bool = False  # aborts the TCP connection instead of sending turn.end
    turn_every_s: float | None = None  # ends the turn in mid-stream, like the real one at 10 min
    delay_s: float = 0.0  # before every message: a slow service
    garbage: Garbage = ""  # a broken message before every phrase
    disorder: bool = False  # phrases swapped in pairs
    phrase_status: str = ""  # RecognitionStatus of every phrase instead of Success
    phrase_s: float = 2.0  # length of a phrase of the marks recogniser
    text: str = ""  # every phrase says this instead


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Who is let in; empty tuples let everybody in."""

    keys: tuple[str, ...] = ()  # accepted in Ocp-Apim-Subscription-Key
    tokens: tuple[str, ...] = ()  # accepted as Authorization: Bearer
    revoked: tuple[str, ...] = ()  # refused, whatever the above say
    quota: int = 0  # sessions at once; 429 beyond it; 0: no limit


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All there is to say to a service that runs in a process of its own, as JSON."""

    recogniser: Literal["marks", "pocketsphinx"] = "marks"
    access: Access = Access()
    plan: tuple[Behaviour, ...] = (Behaviour(),)
