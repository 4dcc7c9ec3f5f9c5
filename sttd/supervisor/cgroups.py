"""A control group (v2) for every worker: a trip-wire at the soft line, a wall behind the ceiling.

Where none is delegated nothing here does anything. Mechanism only: it makes groups, moves processes
into them, and tells what the kernel says of them. Nothing depends on it: every failure is told and
leaves the workers watched by polling alone.

    SERVICE/supervisor   the daemon and its small helpers
    SERVICE/templates    what workers are forked from: libraries, models
    SERVICE/w-17         a worker and its decoder; gone with them

Source of names and meanings: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from sttd.core.recycling import MIB, RecyclePolicy
from sttd.supervisor import hierarchy

TEMPLATES = "templates"
WORKER = re.compile(r"w-\d+")
AGAIN_S = 0.1  # between tries to remove a group whose last process has not quite gone
NO_LIMIT = "max"


class Limits(msgspec.Struct, frozen=True):
    """Bytes; 0: none."""

    high: int
    most: int


def limits(policy: RecyclePolicy) -> Limits:
    """Soft line and backstop of a worker's group.

    The group holds more than the worker's resident memory that the policy judges: its decoder
    (30 MiB, seldom more than 100), the kernel's own for both, files just read. So the backstop lies
    a quarter and 128 MiB above the ceiling: it is for growth faster than any sampling.
    """
    ceiling = policy.rss_ceiling
    return Limits(policy.rss_soft, ceiling + ceiling // 4 + 128 * MIB if ceiling else 0)


class Leaf:
    """One worker's group. The file descriptor of its memory.events is kept open."""

    def __init__(self, folder: Path, bounds: Limits) -> None:
        self.folder = folder
        self.lifted = False
        self._bounds = bounds
        folder.mkdir(exist_ok=True)
        self._write("memory.oom.group", "1")  # worker and decoder: neither is of use alone
        with contextlib.suppress(FileNotFoundError):  # a kernel without swap
            self._write("memory.swap.max", "0")  # growth would hide in it
        self._write("memory.max", str(bounds.most or NO_LIMIT))
        self._write("memory.high", str(bounds.high or NO_LIMIT))
        self.events_fd = os.open(folder / "memory.events", os.O_RDONLY | os.O_CLOEXEC)
        self._base = self._read_events()

    def enter(self, pid: int) -> None:
        """Move a process in; what it has allocated so far stays where it was charged."""
        self._write("cgroup.procs", str(pid))

    def events(self) -> dict[str, int]:
        """What happened since it was made: counts of `high`, `max`, `oom`, `oom_kill`, ..."""
        return {name: n - self._base.get(name, 0) for name, n in self._read_events().items()}

    def lift(self) -> None:
        """Take the soft line away: over it the kernel would slow the job down to a crawl."""
        self.lifted = True
        self._write("memory.high", NO_LIMIT)

    def arm(self) -> None:
        """Draw the soft line again, unless the group is above it (that would block the caller)."""
        if self.lifted and int((self.folder / "memory.current").read_text()) < self._bounds.high:
            self._write("memory.high", str(self._bounds.high))
            self.lifted = False

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self.events_fd)

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def _read_events(self) -> dict[str, int]:
        pairs = (line.split() for line in os.pread(self.events_fd, 4096, 0).splitlines())
        return {name.decode(): int(number) for name, number in pairs}


class Cgroups:
    """All groups of the daemon. `folder` is None, and `why` says why, where there are none.

    `on_soft(worker)` is called when the kernel sees a worker cross its soft line, and
    `on_trouble(line)` when something that had worked does not.
    """

    def __init__(
        self,
        folder: Path | None,
        why: str,
        policy: Callable[[], RecyclePolicy],
        on_trouble: Callable[[str], object] = lambda _line: None,
    ) -> None:
        self.folder = folder
        self.why = why
        self.on_soft: Callable[[str], None] = lambda _worker: None
        self._on_trouble = on_trouble
        self._policy = policy
        self._leaves: dict[str, Leaf] = {}
        self._seen: dict[str, int] = {}  # crossings of the soft line that were told
        self._leaving: set[Path] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._poll: select.epoll | None = None
        if folder is not None:
            self._take(folder)

    @property
    def active(self) -> bool:
        """Whether workers get groups of their own."""
        return self.folder is not None

    # -- taking possession ---------------------------------------------------------------------
    def _take(self, folder: Path) -> None:
        try:
            take_over(folder)
        except OSError as error:
            self._give_up(f"{folder}: {error.strerror}")
            return
        for left in folder.iterdir():
            if left.is_dir() and WORKER.fullmatch(left.name):
                self._leaving.add(left)
        self._sweep()
        self._poll = select.epoll()
        asyncio.get_running_loop().add_reader(self._poll.fileno(), self._heard)

    def _give_up(self, why: str) -> None:
        self.folder, self.why = None, why

    # -- processes -----------------------------------------------------------------------------
    def shelter(self, pid: int) -> None:
        """A template has started."""
        if self.folder is not None:
            with self._trouble("templates"):
                folder = self.folder / TEMPLATES
                folder.mkdir(exist_ok=True)
                (folder / "cgroup.procs").write_text(str(pid))

    def enter(self, worker: str, pid: int) -> None:
        """A process of this worker's exists: itself, or its decoder."""
        if self.folder is None:
            return
        with self._trouble(worker):
            leaf = self._leaves.get(worker)
            if leaf is None:
                leaf = self._leaves[worker] = Leaf(self.folder / worker, limits(self._policy()))
                assert self._poll is not None
                self._poll.register(leaf.events_fd, select.EPOLLPRI)
            leaf.enter(pid)

    def busy(self, worker: str) -> None:
        """It gets a job: from here on its soft line is watched again."""
        if (leaf := self._leaves.get(worker)) is not None:
            with self._trouble(worker):
                leaf.arm()

    def leave(self, worker: str) -> dict[str, int]:
        """The worker is gone: what its group saw. The group goes when it is empty."""
        leaf = self._leaves.pop(worker, None)
        self._seen.pop(worker, None)
        if leaf is None:
            return {}
        seen: dict[str, int] = {}
        with self._trouble(worker):
            assert self._poll is not None
            self._poll.unregister(leaf.events_fd)
            seen = leaf.events()
        leaf.close()
        self._leaving.add(leaf.folder)
        self._sweep()
        return seen

    def close(self) -> None:
        """Workers and templates are gone; what is left of their groups is for the next start."""
        if self.folder is not None:
            self._leaving.add(self.folder / TEMPLATES)
            self._sweep()
        if self._timer is not None:
            self._timer.cancel()
        if self._poll is not None:
            asyncio.get_running_loop().remove_reader(self._poll.fileno())
            self._poll.close()
            self._poll = None
        self._give_up("closed")

    # -- the kernel speaks ---------------------------------------------------------------------
    def _heard(self) -> None:
        assert self._poll is not None
        ready = {fd for fd, _ in self._poll.poll(0)}
        for worker, leaf in list(self._leaves.items()):
            if leaf.events_fd in ready:
                with self._trouble(worker):
                    self._look(worker, leaf)

    def _look(self, worker: str, leaf: Leaf) -> None:
        high = leaf.events().get("high", 0)
        if high > self._seen.get(worker, 0):
            self._seen[worker] = high
            if not leaf.lifted:
                leaf.lift()
                self.on_soft(worker)

    # -- clearing away -------------------------------------------------------------------------
    def _sweep(self) -> None:
        """Remove groups that nobody needs; whoever still lives in one has no master any more."""
        self._timer = None
        for folder in list(self._leaving):
            with contextlib.suppress(OSError):
                for pid in hierarchy.members(folder):
                    os.kill(pid, signal.SIGKILL)
            try:
                folder.rmdir()
            except FileNotFoundError:
                self._leaving.discard(folder)
            except OSError:  # its last process is a zombie yet
                continue
            else:
                self._leaving.discard(folder)
        if self._leaving and self.folder is not None:
            self._timer = asyncio.get_running_loop().call_later(AGAIN_S, self._sweep)

    @contextlib.contextmanager
    def _trouble(self, what: str) -> Iterator[None]:
        try:
            yield
        except ProcessLookupError:
            pass  # it was gone before it could be moved; its pidfd tells
        except (OSError, ValueError) as error:
            self._on_trouble(f"control group of {what}: {error}")


def take_over(folder: Path) -> None:
    """Move whoever lives in the group into a leaf, so that it may have groups beneath it.

    Raises OSError; then everything is as it was.
    """
    leaf = folder / hierarchy.SUPERVISOR
    leaf.mkdir(exist_ok=True)
    moved = hierarchy.members(folder)
    try:
        for pid in moved:
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(str(pid))
        (folder / "cgroup.subtree_control").write_text("+memory")
    except OSError:
        with contextlib.suppress(OSError):
            for pid in moved:
                (folder / "cgroup.procs").write_text(str(pid))
            leaf.rmdir()
        raise


def settle_in(
    wish: str, policy: Callable[[], RecyclePolicy], on_trouble: Callable[[str], object]
) -> Cgroups:
    """The daemon's groups, if it is to have any (`pool.cgroups`) and there is a place for them."""
    if wish == "off":
        return Cgroups(None, "pool.cgroups is off", policy)
    folder = hierarchy.own_folder()
    why = hierarchy.obstacle(folder, [os.getpid(), *_children()])
    return Cgroups(None if why else folder, why, policy, on_trouble)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]
