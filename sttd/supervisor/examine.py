"""Evidence from a process that hangs: where its threads wait, as the kernel and Python see it.

Reads /proc and the worker's stack file; sends one signal; changes nothing else.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

LONGEST = 16_384  # bytes of Python stacks that are kept
MOST_THREADS = 64
WAIT_STEP_S = 0.02
WAIT_STEPS = 10  # the handler writes within a millisecond, if the process is scheduled at all


class Thread(msgspec.Struct, frozen=True):
    """A thread as the kernel sees it: its name, its state letter, where it sleeps."""

    name: str
    state: str
    waits_in: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was found before a worker was ended. `samples`: seconds before the end, bytes."""

    worker: str
    attempt: int
    reason: str
    samples: tuple[tuple[float, int], ...] = ()
    stacks: str = ""
    threads: tuple[Thread, ...] = ()


def threads(pid: int) -> tuple[Thread, ...]:
    """The process's threads; empty when it is gone."""
    found = []
    try:
        for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int)[:MOST_THREADS]:
            folder = f"/proc/{pid}/task/{task}"
            stat = _text(f"{folder}/stat").rpartition(")")[2].split()
            state = stat[0] if stat else "?"
            found.append(Thread(_text(f"{folder}/comm"), state, _text(f"{folder}/wchan")))
    except OSError:
        pass
    return tuple(found)


async def stacks(fd: int) -> str:
    """What faulthandler wrote into the stack file, waiting a fifth of a second for it."""
    for _ in range(WAIT_STEPS):
        await asyncio.sleep(WAIT_STEP_S)
        if data := os.pread(fd, LONGEST, 0):
            return data.decode(errors="backslashreplace")
    return ""


def _text(path: str) -> str:
    try:
        # a thread's name is cut at 15 bytes, be it in the middle of a character
        with open(path, errors="backslashreplace") as file:
            return file.read().strip()
    except OSError:
        return ""
