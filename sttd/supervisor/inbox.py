"""Finds recordings in the inbox that are whole, and makes them ours on disk.

The scan is the truth; `look` only saves waiting for it. Refuses what is no plain file, with a
reason, once. Everything is opened beneath the inbox without following links. Knows nothing of
the ledger, of job states, of asyncio; its methods block and are called one at a time, but `take`,
which may run beside the others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sttd.supervisor import claim, durable, names
from sttd.supervisor.beneath import FOLDER, PLACE, open_beneath
from sttd.supervisor.claim import Outcome
from sttd.supervisor.durable import StorageBroken, StorageFull, Syncer
from sttd.supervisor.entrance import Busy, Refused, enter
from sttd.supervisor.records import JobRow, NewJob, Signature
from sttd.supervisor.refusals import MAX_TOLD, Told, no_plain_file
from sttd.supervisor.spool import Spool, signature_of
from sttd.supervisor.stability import Clock, Stability
from sttd.supervisor.walk import Met, Shut, walk

_REFUSED_FOR_S = 60.0  # before a file that could not be moved is tried again
_STRIDE = 5_000  # entries looked at in one piece of a scan


class InboxUnavailable(Exception):  # noqa: N818 - a state of the machine, not a mistake
    """The inbox is not there, not readable, or on another file system; says which."""


@dataclass(frozen=True, kw_only=True)
class InboxSettings:
    """Where recordings arrive and when they count as whole; times in seconds."""

    path: Path
    extensions: frozenset[str]
    settle_s: float = 2.0
    recursive: bool = True
    empty_grace_s: float = 60.0  # for a file without bytes
    leaseless_settle_s: float = 10.0  # where the kernel cannot tell whether somebody writes
    lone_sidecar_s: float = 600.0  # for options without a recording


class Candidate(NamedTuple):
    """A recording that has settled."""

    name: str
    signature: Signature


class Rejection(NamedTuple):
    """A file or folder that is left where it is."""

    name: str
    reason: str


class LoneSidecar(NamedTuple):
    """Options whose recording never came."""

    name: str


Found = Candidate | Rejection | LoneSidecar


class Scan(NamedTuple):
    """A piece of a walk over the whole inbox."""

    found: list[Found]
    finished: bool


class Inbox:
    """The inbox folder, what is known of its files, and the way from it into the spool."""

    def __init__(
        self, settings: InboxSettings, spool: Spool, *, syncer: Syncer, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self._spool = spool
        self._syncer = syncer
        self._clock = clock or Clock()
        self._stability = Stability(self._clock)
        self._told = Told()
        self._refused: dict[str, float] = {}  # name -> boottime from which it is tried again
        self._walk: Iterator[Met | Shut | None] | None = None
        self._walk_root = -1

    # -- finding ------------------------------------------------------------------------------
    def scan(self, limit: int = 1000) -> Scan:
        """The next piece of a walk over everything, at most about `limit` findings.

        Starts a new walk when the last one has finished. Raises InboxUnavailable.
        """
        found: list[Found] = []
        self._stability.check_clock()
        if self._walk is None:
            self._begin_walk()
        assert self._walk is not None
        try:
            for count, met in enumerate(self._walk, 1):
                if met is not None:
                    found += self._judge(met)
                if len(found) >= limit or count >= _STRIDE:
                    return Scan(found, finished=False)
        except OSError as error:
            self.end_scan()
            raise InboxUnavailable(f"{self.settings.path}: cannot be read: {error}") from error
        self._stability.end_round()
        self._told.end_round()
        self.end_scan()
        return Scan(found, finished=True)

    def end_scan(self) -> None:
        """Give up the walk under way; the next `scan` starts afresh."""
        if self._walk is not None:
            self._walk = None  # closes its descriptors
            os.close(self._walk_root)

    def look(self, hints: Iterable[str] = (), limit: int = 1000) -> list[Found]:
        """Look at the files that are due, and at those in `hints` (paths beneath the inbox)."""
        due = [*hints, *self._stability.due(limit)]
        if not due:
            return []
        self._stability.check_clock()
        found: list[Found] = []
        with self._root() as root:
            for name in dict.fromkeys(due):
                found += self._look_at(root, name)
        return found

    def next_look(self) -> float | None:
        """The boottime, in seconds, at which `look` has something to do; None: nothing waits."""
        return self._stability.next_look()

    def _begin_walk(self) -> None:
        self._walk_root = self._open_root()
        self._stability.begin_round()
        self._told.begin_round()
        self._walk = walk(self._walk_root, self._is_wanted, recursive=self.settings.recursive)

    def _is_wanted(self, base: str) -> bool:
        known = self.settings.extensions
        return names.is_recording(base, known) or names.recording_of(base, known) is not None

    def _look_at(self, root: int, name: str) -> Iterator[Found]:
        folders, base = names.split(name)
        parts = folders.split("/")[:-1]
        if (
            not self._is_wanted(base)
            or len(parts) > (names.MAX_DEPTH if self.settings.recursive else 0)
            or any(map(names.is_service_folder, parts))
        ):
            return
        try:
            place = open_beneath(root, name, PLACE)
        except FileNotFoundError:
            self._stability.forget(name)
            return
        except OSError:
            return  # a link, or something else that the scan will name
        try:
            status = os.fstat(place)
        finally:
            os.close(place)
        if not stat.S_ISDIR(status.st_mode):
            yield from self._judge(Met(name, status))

    # -- judging ------------------------------------------------------------------------------
    def _judge(self, met: Met | Shut) -> Iterator[Found]:
        if isinstance(met, Shut):
            yield from self._reject(met.name, met.reason, met.reason)
            return
        name, status = met
        signature = signature_of(status)
        reason = no_plain_file(status)
        if reason is not None:
            # a change of ctime alone (another link to it) is nothing new
            yield from self._reject(name, reason, (signature.ino, reason))
        elif names.recording_of(names.split(name)[1], self.settings.extensions) is not None:
            yield from self._judge_sidecar(name, signature)
        else:
            self._told.keep(name)
            if self._has_settled(name, signature) and not self._was_refused(name):
                yield Candidate(name, signature)

    def _has_settled(self, name: str, signature: Signature) -> bool:
        wait = self.settings.settle_s
        if signature.size == 0:
            wait = max(wait, self.settings.empty_grace_s)
        return self._stability.is_settled(name, signature, wait)

    def _judge_sidecar(self, name: str, signature: Signature) -> Iterator[Found]:
        recording = self.settings.path / name.removesuffix(names.SIDECAR_SUFFIX)
        if os.path.lexists(recording):
            self._stability.keep(name)
            return
        self._told.keep(name)
        settled = self._stability.is_settled(name, signature, self.settings.lone_sidecar_s)
        if settled and not self._was_refused(name):
            yield LoneSidecar(name)

    def _was_refused(self, name: str) -> bool:
        until = self._refused.get(name)
        if until is None or self._clock.boottime() >= until:
            self._refused.pop(name, None)
            return False
        return True

    def refuse(self, name: str, reason: str, ino: int = 0) -> list[Rejection]:
        """It cannot be moved and is left alone for a while; what is to be said of it, once.

        May be called beside the other methods, as `take`.
        """
        if len(self._refused) < MAX_TOLD:
            self._refused[name] = self._clock.boottime() + _REFUSED_FOR_S
        return list(self._reject(name, reason, (ino, reason)))

    def _reject(self, name: str, reason: str, what: object) -> Iterator[Rejection]:
        if self._told.is_news(name, what):
            yield Rejection(name, reason)

    # -- making ours --------------------------------------------------------------------------
    def prepare(self, candidates: Sequence[Candidate]) -> tuple[list[NewJob], list[Rejection]]:
        """Step 3 for each: nobody writes it, it is synced, it has not changed; read its sidecar.

        What does not pass is looked at again later. Raises StorageBroken, StorageFull and
        InboxUnavailable.
        """
        jobs: list[NewJob] = []
        rejected: list[Rejection] = []
        with self._root() as root:
            entered = enter(root, candidates, self._syncer)
        for candidate, result in zip(candidates, entered, strict=True):
            name, signature = candidate
            if isinstance(result, Refused):
                rejected += self._reject(name, result.reason, (signature.ino, result.reason))
            elif isinstance(result, Busy):
                self._stability.is_busy(name, signature)
            elif result.lease_works or self._is_old_enough(name, signature):
                self._stability.forget(name)
                jobs.append(result.job)
        return jobs, rejected

    def _is_old_enough(self, name: str, signature: Signature) -> bool:
        wait = max(self.settings.settle_s, self.settings.leaseless_settle_s)
        return self._stability.is_settled(name, signature, wait)

    def take(self, rows: Sequence[JobRow]) -> list[Outcome]:
        """Steps 5 to 8 for committed rows; may be repeated. See `claim.take`."""
        with self._root() as root:
            try:
                return claim.take(root, rows, self._spool, self._syncer)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                raise self._apart(f"another mount than {self._spool.root}") from error

    @contextlib.contextmanager
    def holding(self, name: str) -> Iterator[tuple[int, str]]:
        """The open folder of a file in the inbox, and its name there; raises OSError."""
        prefix, base = names.split(name)
        with self._root() as root:
            folder = open_beneath(root, prefix.rstrip("/") or ".", FOLDER)
            try:
                yield folder, base
            finally:
                os.close(folder)

    # -- the folder itself --------------------------------------------------------------------
    @contextlib.contextmanager
    def _root(self) -> Iterator[int]:
        root = self._open_root()
        try:
            yield root
        finally:
            os.close(root)

    def _open_root(self) -> int:
        path = self.settings.path
        try:
            with durable.storage(f"cannot open {path}"):
                root = os.open(path, FOLDER | os.O_CLOEXEC)
        except StorageFull as error:
            raise InboxUnavailable(str(error)) from error
        except StorageBroken:
            raise
        except OSError as error:
            raise InboxUnavailable(
                f"{path}: {error.strerror}; make the folder readable for sttd"
            ) from error
        if os.fstat(root).st_dev != self._spool.root.stat().st_dev:
            os.close(root)
            raise self._apart(f"on another file system than {self._spool.root}")
        return root

    def _apart(self, how: str) -> InboxUnavailable:
        return InboxUnavailable(
            f"{self.settings.path} is {how}; "
            "put both on one, recordings are renamed from one to the other"
        )
