"""What the daemon and the process that fetches a recording say to each other: one line each way."""

from __future__ import annotations

import msgspec


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be fetched into the descriptor that is the helper's standard output.

    Sizes in bytes, times in seconds. `keep_free` is what must stay free on the disk.
    """

    url: str
    allow_hosts: tuple[str, ...]
    max_bytes: int
    keep_free: int
    timeout_s: float
    supervisor: int  # pid; whoever has another parent leaves


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended; `code` is None when the whole recording is there, else an error code."""

    bytes: int = 0
    code: str | None = None
    message: str = ""
