"""Whether anything more may be claimed: free disk and the length of the queue. Claims nothing."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from sttd.supervisor.durable import StorageFull
from sttd.supervisor.records import Counts


class QueueFullError(Exception):
    """As many jobs wait as may; the message says how many."""


class BelowFloorError(StorageFull):
    """So little room is left on a disk that nothing more is taken in; the message says where."""


class Room:
    """The floor and the ceiling of `[limits]`; `disks` are folders on the disks that fill up."""

    def __init__(
        self,
        counts: Callable[[], Awaitable[Counts]],
        disks: Sequence[Path],
        *,
        min_free_disk: int,
        max_queued: int,
    ) -> None:
        self._counts = counts
        self._disks = disks
        self.min_free_disk = min_free_disk  # bytes; may be changed by a reload
        self.max_queued = max_queued  # jobs; may be changed by a reload

    async def left(self, claiming: int) -> int:
        """How many more jobs may be claimed, at least one; `claiming` are under way already.

        Raises QueueFullError, BelowFloorError, and OSError when a disk cannot be asked.
        """
        for folder in self._disks:
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize < self.min_free_disk:
                raise BelowFloorError(
                    f"less than limits.min_free_disk ({self.min_free_disk} bytes) is free on the "
                    f"disk of {folder}; make room"
                )
        counts = await self._counts()
        left = self.max_queued - counts.queued - counts.deferred - claiming
        if left <= 0:
            raise QueueFullError(f"limits.max_queued ({self.max_queued}) jobs wait already")
        return left
