"""Runs inside the processes of a daemon under test: counts what they do to the disk and strikes.

Production code has no hooks for faults; `faulty/sitecustomize.py` calls `install` in the
supervisor, the template and, by inheritance, the workers. What is to happen comes as JSON in
STTD_TEST_FAULTS, see `Plan`. All processes count together, in a file that is no part of the state.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import re
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

FS_IOC_SHUTDOWN = 0x8004587D  # <linux/ext4.h>: EXT4_IOC_SHUTDOWN
_libc = ctypes.PyDLL(None, use_errno=True)
NOLOGFLUSH = struct.pack("I", 2)  # what is in the journal's buffer is lost, as without power
_JOB = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_SHELF = re.compile(r"spool/[0-9a-f]{2}(?=/|$| )")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to happen.

    Struck is before operation number `at` (from 1), or at the `nth` whose label matches
    `label` (`after`: when it is done). A commit counts once for each statement that matches, as
    it is a matter of timing how many jobs share one. `how`: "power" (the disks lose what was not
    synced, then SIGKILL), "kill" (SIGKILL of the supervisor), or the name of an errno, which the
    operation raises instead of being done (`always`: from then on).
    """

    folder: str  # of the counter and the trace
    root: str  # operations elsewhere are not counted
    at: int | None = None
    label: str | None = None
    nth: int = 1
    after: bool = False
    always: bool = False
    how: str = "power"
    disks: tuple[str, ...] = ()  # mount points, the first being cut first
    writes: bool = False  # count each write as well: a power cut needs none, a kill does
    skip_fsync: str | None = None  # mutant: no fsync of what matches
    mutants: tuple[str, ...] = ()  # see `_MUTANTS`
    clock: str | None = None  # a file with the seconds by which the wall clock is wrong
    slept: str | None = None  # a file with the seconds for which the machine was suspended


def install() -> None:
    """Patch this process, for good."""
    plan = msgspec.json.decode(os.environ["STTD_TEST_FAULTS"], type=Plan)
    supervisor = "sttd" in sys.orig_argv
    faults = Faults(plan)
    if supervisor:
        Path(plan.folder, "supervisor").write_text(str(os.getpid()))
    faults.patch_os()
    if plan.clock is not None:
        _patch_clock(plan.clock)
    if plan.slept is not None:
        _patch_sleep(plan.slept)
    if supervisor:
        faults.patch_supervisor()
        for name in plan.mutants:
            _MUTANTS[name]()


class Faults:
    """The operations of this process, seen and struck."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._lock = threading.Lock()
        self._flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._pattern = re.compile(plan.label) if plan.label else None
        self._skip = re.compile(plan.skip_fsync) if plan.skip_fsync else None
        self._struck = False
        self._open, self._write, self._close = os.open, os.write, os.close

    # -- what is counted --------------------------------------------------------------------------
    def patch_os(self) -> None:
        """Every call that changes the disk, but plain writes unless the plan wants them."""
        for name in ("fsync", "fdatasync", "mkdir", "unlink", "remove", "rmdir"):
            setattr(os, name, self._counted(getattr(os, name), functools.partial(_one, name)))
        for name in ("rename", "replace", "link"):
            setattr(os, name, self._counted(getattr(os, name), functools.partial(_two, name)))
        if self._skip is not None:
            os.posix_fadvise = lambda *_: None  # else it writes what is not to be synced
        if self.plan.writes:
            os.write = self._counted(os.write, functools.partial(_one, "write"))

    def patch_supervisor(self) -> None:
        """The calls that do not go through `os`: renameat2, and SQLite's commits."""
        from sttd.supervisor import beneath  # noqa: PLC0415 - only in the supervisor
        from sttd.supervisor.ledger.store import Store  # noqa: PLC0415

        def label(*args: Any) -> str:
            source, target = _place(args[1], args[0]), _place(args[3], args[2])
            return f"renameat2 {source} {target}"

        beneath._renameat2 = self._counted(beneath._renameat2, label)
        run = Store.run
        said: list[str] = []

        def counted(store: Store, name: str, /, **bindings: Any) -> int:
            if name == "begin":
                said.clear()
            elif name == "commit":
                what = f"commit {self.plan.root}/ledger " + ",".join(said)
                return int(self._do(what, lambda: run(store, name, **bindings)))
            elif name not in ("savepoint", "release", "undo"):
                said.append(name)
            return run(store, name, **bindings)

        Store.run = counted  # type: ignore[method-assign]  # in a child
        rows = Store.rows

        def asked(store: Store, name: str, /, **bindings: Any) -> Any:
            said.append(name)
            return rows(store, name, **bindings)

        Store.rows = asked  # type: ignore[method-assign]  # in a child

    def _counted(self, call: Callable[..., Any], label: Callable[..., str]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            what = label(*args, **kwargs)
            if self.plan.root not in what:
                return call(*args, **kwargs)
            if self._skip is not None and self._skip.search(normal(what, self.plan.root)):
                return None
            return self._do(what, lambda: call(*args, **kwargs))

        return counted

    # -- what happens -----------------------------------------------------------------------------
    def _do(self, what: str, call: Callable[[], Any]) -> Any:
        due = self._is_due(what)
        if due and not self.plan.after:
            self._strike(what)
        done = call()
        if due and self.plan.after:
            self._strike(what)
        return done

    def _is_due(self, what: str) -> bool:
        label = normal(what, self.plan.root)
        matches = self._matches(label)
        with self._lock:
            trace = self._open(f"{self.plan.folder}/trace", self._flags, 0o600)
            try:
                fcntl.flock(trace, fcntl.LOCK_EX)
                lines = os.pread(trace, 1 << 24, 0).decode().splitlines()
                before = sum(int(line.partition(" ")[0]) for line in lines)
                self._write(trace, f"{matches} {label}\n".encode())
            finally:
                self._close(trace)
        if self.plan.at is not None:
            return len(lines) + 1 == self.plan.at
        if self.plan.always:
            return matches > 0
        return before < self.plan.nth <= before + matches

    def _matches(self, label: str) -> int:
        if self._pattern is None:
            return 0
        commit, of_the_ledger, statements = label.partition("commit ledger ")
        each = [label]
        if of_the_ledger and not commit:
            each = [of_the_ledger + statement for statement in statements.split(",")]
        return sum(1 for one in each if self._pattern.search(one))

    def _strike(self, what: str) -> None:
        if self.plan.how in errno.errorcode.values():
            code = getattr(errno, self.plan.how)
            raise OSError(code, os.strerror(code), what)
        Path(self.plan.folder, "struck").write_text(normal(what, self.plan.root))
        supervisor = int(Path(self.plan.folder, "supervisor").read_text())
        mounts = [os.open(disk, os.O_RDONLY | os.O_DIRECTORY) for disk in self.plan.disks]
        if supervisor != os.getpid():
            os.kill(supervisor, signal.SIGSTOP)
        if self.plan.how == "power":
            _keep_the_interpreter()
            shut_down(mounts)
        _libc.kill(supervisor, signal.SIGKILL)
        _libc.kill(os.getpid(), signal.SIGKILL)


def _keep_the_interpreter() -> None:
    """From here to the SIGKILL no other thread of this process runs any Python.

    ext4 may let an fsync that is under way succeed although its journal was just aborted, and
    nobody must acknowledge upon that. Those who wait for the lock already may ask for it once
    more, by the interval they began to wait with: they get it now.
    """
    sys.setswitchinterval(3600.0)
    time.sleep(0.02)


def shut_down(mounts: list[int]) -> None:
    """Cut the power of mounted file systems (ext4, xfs), open here; needs CAP_SYS_ADMIN."""
    for mount in mounts:
        failed = _libc.ioctl(mount, ctypes.c_ulong(FS_IOC_SHUTDOWN), NOLOGFLUSH)
        assert not failed, f"FS_IOC_SHUTDOWN: {os.strerror(ctypes.get_errno())}"


def normal(what: str, root: str) -> str:
    """A label without what differs from run to run."""
    for pattern, word in ((_JOB, "JOB"), (_TOKEN, "TOKEN")):
        what = pattern.sub(word, what)
    what = what.replace(root + "/", "").replace(root, ".")
    return _SHELF.sub("spool/XX", what).encode("unicode_escape").decode()


def _place(path: Any, folder: int | None = None) -> str:
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return "?"
    text = os.fsdecode(path)
    if folder is not None and folder >= 0 and not text.startswith("/"):
        return f"{_place(folder)}/{text}"
    return text


def _one(name: str, path: Any, *_args: Any, dir_fd: int | None = None, **_kwargs: Any) -> str:
    return f"{name} {_place(path, dir_fd)}"


def _two(
    name: str,
    source: Any,
    target: Any,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    **_kwargs: Any,
) -> str:
    return f"{name} {_place(source, src_dir_fd)} {_place(target, dst_dir_fd)}"


# -- the wall clock -------------------------------------------------------------------------------
def _seconds(path: str) -> int:
    try:
        return int(Path(path).read_text() or 0)
    except FileNotFoundError:
        return 0


def _patch_clock(path: str) -> None:
    wall, wall_ns = time.time, time.time_ns
    time.time = lambda: wall() + _seconds(path)
    time.time_ns = lambda: wall_ns() + _seconds(path) * 10**9


def _patch_sleep(path: str) -> None:
    """Asleep, the wall clock and CLOCK_BOOTTIME go on, and CLOCK_MONOTONIC does not."""
    _patch_clock(path)
    get, get_ns = time.clock_gettime, time.clock_gettime_ns

    def slept_s(clock: int) -> int:
        return _seconds(path) if clock in (time.CLOCK_BOOTTIME, time.CLOCK_REALTIME) else 0

    time.clock_gettime = lambda clock: get(clock) + slept_s(clock)
    time.clock_gettime_ns = lambda clock: get_ns(clock) + slept_s(clock) * 10**9


# -- mutants: sttd without one of its rules -------------------------------------------------------
def _normal_synchronous() -> None:
    """The ledger is not synced at each commit."""
    from sttd.supervisor.ledger import opening  # noqa: PLC0415

    begin = opening._new_epoch

    def careless(store: Any, boot_id: str) -> None:
        store.connection.execute("pragma synchronous = normal").fetchall()
        begin(store, boot_id)

    opening._new_epoch = careless


def _rename_before_insert() -> None:
    """The recording is moved into the spool before its row is committed."""
    from sttd.supervisor.arrivals import Arrivals  # noqa: PLC0415
    from sttd.supervisor.ledger import Ledger  # noqa: PLC0415

    begin = Ledger.begin
    inbox: list[Any] = []
    prepare = Arrivals._prepare

    def noted(self: Arrivals, candidates: Any) -> Any:
        inbox[:] = [self._inbox]
        return prepare(self, candidates)

    async def careless(self: Ledger, new: Any) -> Any:
        spool = inbox[0]._spool
        for job in new:
            if job.kind == "inbox":
                home = spool.make(job.id)
                os.rename(inbox[0].settings.path / job.name, f"{home}/audio")
        return await begin(self, new)

    Arrivals._prepare = noted  # type: ignore[method-assign]
    Ledger.begin = careless  # type: ignore[method-assign]


def _no_adoption() -> None:
    """A transcript that was published without having been recorded is not found."""
    from sttd.supervisor.outbox import Outbox  # noqa: PLC0415

    Outbox.finish = lambda self, row: None  # type: ignore[method-assign]  # noqa: ARG005


def _publish_after_record() -> None:
    """The job is recorded as done before its transcript is visible."""
    from sttd.supervisor.ledger import Ledger  # noqa: PLC0415
    from sttd.supervisor.settling import Settling  # noqa: PLC0415

    publish = Settling.publish

    async def careless(self: Settling, job: Any, done: Any) -> Any:
        outputs = [job.out_name + Path(o.name).suffix for o in done.outputs]
        await Ledger.succeed(
            self._ledger,
            job.id,
            job.token,
            outputs=outputs,
            duration_s=done.duration_s,
            sha256=done.sha256,
            segments=done.segments,
        )
        return await publish(self, job, done)

    Settling.publish = careless  # type: ignore[method-assign]


_MUTANTS = {
    "normal": _normal_synchronous,
    "rename_first": _rename_before_insert,
    "no_adoption": _no_adoption,
    "record_first": _publish_after_record,
}
