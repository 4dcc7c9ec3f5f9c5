"""A lock for each key, which lives as long as somebody has it. Knows nothing of what it guards."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Locks:
    """As many as are held or waited for just now."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: str) -> asyncio.Lock:
        """The lock of this key, for `async with`."""
        return self._locks.setdefault(key, asyncio.Lock())
