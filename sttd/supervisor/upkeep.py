"""What the daemon does for itself every minute or so, so that it can run for years.

Forgets uploads that nobody continues, makes the ballast again, prunes old rows, removes old
originals, copies the ledger once a day. Everything in small steps between which the daemon goes
on; what fails is told once and tried again. Deletes nothing that is younger than `[retention]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from sttd import linux
from sttd.config import Settings
from sttd.log import Log
from sttd.supervisor import retention
from sttd.supervisor.ledger import Ledger, LedgerError
from sttd.supervisor.retention import Trust

EVERY_S = 60.0
FILES_EVERY_S = 3600.0
LEAST_S = 1.0  # where [retention] has times that are shorter than these
BACKUP_EVERY_S = 86_400.0
BACKUP = "backup.db"  # beside the ledger
ROWS_A_STEP = 500  # of each kind in one transaction
STEPS_A_ROUND = 100
NAMES_A_STEP = 512  # looked at before the thread is given back
PAUSE_S = 0.05  # between steps


class Upkeep:
    """One for the daemon's life. `wall` and `boottime` are seconds, injected for tests."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        log: Log,
        expire_uploads: Callable[[], int],
        *,
        wall: Callable[[], float] = time.time,
        boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        pause_s: float = PAUSE_S,
    ) -> None:
        self.settings = settings
        self._ledger = ledger
        self._log = log
        self._expire_uploads = expire_uploads
        self._wall = wall
        self._boottime = boottime
        self._pause_s = pause_s
        self._trust = Trust(wall(), boottime())
        self._files_at = boottime()
        self._troubles: dict[str, str] = {}

    async def run(self) -> None:
        """A round every minute, or oftener where less is kept, until cancelled."""
        while True:
            keep = self.settings.retention
            await asyncio.sleep(_period(EVERY_S, keep.done, keep.failed, keep.rows))
            await self.round()

    async def round(self) -> None:
        """Everything that is due now."""
        self._expire_uploads()
        wall, boottime = self._wall(), self._boottime()
        now_ns = int(wall * retention.NS)
        trusted = self._trust.holds(wall, boottime)
        with self._telling("ballast"):
            await self._ledger.restore_ballast(self.settings.limits.min_free_disk)
        rows = files = 0
        with self._telling("clock"):
            if not trusted:
                raise ClockSetError
            with self._telling("rows"):
                rows = await self._prune_rows(now_ns)
            if boottime >= self._files_at:
                keep = self.settings.retention
                self._files_at = boottime + _period(FILES_EVERY_S, keep.done, keep.failed)
                with self._telling("files"):
                    files = await self._prune_files(now_ns)
        if rows or files:
            self._log.event("upkeep.pruned", rows=rows, files=files)
        with self._telling("backup"):
            await self._back_up(wall)
        linux.malloc_trim()  # a copy of the ledger takes a mebibyte or two for a while

    # -- rows and files ------------------------------------------------------------------------
    async def _prune_rows(self, now_ns: int) -> int:
        before_ns = retention.before(now_ns, self.settings.retention.rows)
        gone = 0
        for _ in range(STEPS_A_ROUND if before_ns else 0):
            step = await self._ledger.prune(before_ns, before_ns, ROWS_A_STEP)
            if not step:
                break
            gone += step
            await asyncio.sleep(self._pause_s)
        return gone

    async def _prune_files(self, now_ns: int) -> int:
        keep = self.settings.retention
        gone = 0
        for root, keep_s in (
            (self.settings.done_dir, keep.done),
            (self.settings.failed_dir, keep.failed),
        ):
            if keep_s > 0:
                gone += await self._sweep(root, retention.before(now_ns, keep_s), now_ns)
        logs = self.settings.logs_dir
        if keep.done > 0 and logs.is_dir():  # it may be missed: hardly anybody asks for logs
            gone += await self._sweep(logs, retention.before(now_ns, keep.done), now_ns)
        return gone

    async def _sweep(self, root: Path, before_ns: int, now_ns: int) -> int:
        names = retention.sweep(root, before_ns, now_ns - retention.EMPTY_FOR_NS)
        gone = 0
        try:
            while True:
                looked, removed = await asyncio.to_thread(_step, names)
                gone += removed
                if looked < NAMES_A_STEP:
                    return gone
                await asyncio.sleep(self._pause_s)
        finally:
            with contextlib.suppress(ValueError):  # cancelled: the thread is still at it
                names.close()

    # -- the copy ------------------------------------------------------------------------------
    async def _back_up(self, wall: float) -> None:
        """A copy a day, counted by the copy itself, so that restarts make none."""
        path = self.settings.ledger_path.with_name(BACKUP)
        with contextlib.suppress(FileNotFoundError):
            age = wall - path.stat().st_mtime
            if 0 <= age < BACKUP_EVERY_S:
                return
        await self._ledger.backup(path)

    # -- troubles ------------------------------------------------------------------------------
    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Say what went wrong when it changes; the next round tries again."""
        try:
            yield
        except (OSError, LedgerError, ClockSetError) as error:
            if self._troubles.get(what) != str(error):
                self._troubles[what] = str(error)
                self._log.event("upkeep.trouble", message=f"{what}: {error}")
        else:
            self._troubles.pop(what, None)


class ClockSetError(Exception):
    """The wall clock was set a while ago."""

    def __str__(self) -> str:
        return "the clock was set by an hour or more: nothing is thrown away for a day"


def _period(most: float, *kept: float) -> float:
    """As short as the shortest time that something is kept, so that it is not kept much longer."""
    return min(most, max(LEAST_S, min((each for each in kept if each > 0), default=most)))


def _step(names: Iterator[int]) -> tuple[int, int]:
    """(names looked at, recordings removed) of the next piece."""
    found = list(islice(names, NAMES_A_STEP))
    return len(found), sum(found)
