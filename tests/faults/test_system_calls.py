"""SIGKILL of the supervisor inside system calls, by strace: from outside, with nothing patched.

`test_kills.py` counts a commit as one operation; what SQLite does within one is struck here.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support import faults
from tests.support.faults import Machine, ViolationError, machine
from tests.support.tally import sweep

# The calls by which SQLite changes its files; nobody else in the supervisor uses the first two.
OF_THE_LEDGER = ("pwrite64", "fdatasync", "ftruncate")
Life = Callable[[Machine, str, int], bool]
IN_A_ROW = 3  # lives that survive, before there is no call left to be killed at


@pytest.fixture(autouse=True)
def _strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (apt: strace)")


def killing(m: Machine, call: str, nth: int) -> list[str]:
    """strace, which kills at the nth such call of any one thread."""
    traced = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={nth}"]
    return ["strace", "-f", "-o", str(m.sttd.home / "strace"), *traced]


@contextlib.contextmanager
def attached(m: Machine, call: str, nth: int) -> Iterator[None]:
    """A daemon that is ready has strace at it."""
    command = [*killing(m, call, nth), "-p", str(m.sttd.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        told = tracer.stderr.readline()
        if "attached" not in told:
            tracer.kill()
            pytest.skip(f"strace cannot attach: {told.strip()}")
        yield


def killed_at_work(m: Machine, call: str, nth: int) -> bool:
    """Whether the daemon, once ready, was killed before it was at rest and stopped."""
    m.sttd.start(env=m.environment())  # no fault, but its processes are known by it
    with attached(m, call, nth):
        story = faults.tell(m)
        struck = faults.live_on(m, story)
    _look_after(m, story, struck=struck)
    return struck


def killed_at_the_start(m: Machine, call: str, nth: int) -> bool:
    """Whether the daemon was killed before it was ready."""
    story = faults.tell(m)
    m.sttd.under = (*killing(m, call, nth), "-D")
    struck = faults.live(m, story)
    m.sttd.under = ()
    ready = bool(m.sttd.events("daemon.ready"))
    _look_after(m, story, struck=struck)
    return struck and not ready


def _look_after(m: Machine, story: faults.Story, *, struck: bool) -> None:
    if struck:
        assert m.sttd.process is not None
        assert m.sttd.process.returncode == -signal.SIGKILL
        faults.no_orphans(m)
        faults.recover(m, story)
    else:
        faults.check(m, story, faults.accepted(m))


@pytest.mark.parametrize("call", ["fdatasync", "renameat2", "pwrite64"])
def test_a_kill_at_a_system_call_loses_nothing(call: str) -> None:
    with machine() as m:
        assert killed_at_work(m, call, 3)


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_kill_while_the_ledger_is_made_loses_nothing(call: str) -> None:
    with machine() as m:
        assert killed_at_the_start(m, call, 7)


@pytest.mark.sweep
@pytest.mark.timeout(2 * 3600)
@pytest.mark.parametrize("life", [killed_at_the_start, killed_at_work])
def test_a_kill_at_every_system_call_of_the_ledger_until_it_survives(life: Life) -> None:
    """About two seconds a call, of some 100 at the start and 300 at work."""
    when = life.__name__.replace("_", " ")
    with sweep(f"SIGKILL at every system call of the ledger, {when}", "lives") as tried:
        for call in OF_THE_LEDGER:
            nth = survived = 0
            while survived < IN_A_ROW:
                nth += 1
                with machine() as m, tried.one(f"{call} {nth}"):
                    survived += 1
                    try:
                        survived = 0 if life(m, call, nth) else survived
                    except (AssertionError, ViolationError):
                        survived = 0
                        raise
            tried.notes.append(f"{nth - IN_A_ROW} {call}")
