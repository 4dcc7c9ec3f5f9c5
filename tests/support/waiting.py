"""Wait for a condition with a deadline; the only place in the tests that sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE_S = 30.0
STEP_S = 0.01


def eventually(
    look: Callable[[], T],
    what: str = "",
    deadline_s: float = DEADLINE_S,
    step_s: float = STEP_S,
) -> T:
    """The first true value of `look()`; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while not (found := look()):
        assert time.monotonic() < end, f"never came true: {what or look}"
        time.sleep(step_s)
    return found


async def eventually_async(
    look: Callable[[], T], what: str = "", deadline_s: float = DEADLINE_S
) -> T:
    """The same on a running loop."""
    end = time.monotonic() + deadline_s
    while not (found := look()):
        assert time.monotonic() < end, f"never came true: {what or look}"
        await asyncio.sleep(STEP_S)
    return found
