"""Leaks, spikes, hangs and crashes: real ones, as a monitor outside the process sees them.

Each function does one bad thing to the process it runs in, and means it. What is leaked stays in
this module until the process ends.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from typing import NoReturn

MB = 1 << 20
FILL = b"\x5a"
# Above what Python's own allocator takes (512), below what malloc maps one by one (128 KiB).
BLOCK = 1000  # bytes
TICK_S = 0.005  # steps of a leak: small against the 20 ms in which a supervisor samples

_leaked: list[bytes] = []
_left_open: list[int] = []


# -- memory ------------------------------------------------------------------------------------
def leak(size: int) -> None:
    """Keep `size` bytes for ever. They are written to, so that they are in RSS at once."""
    _leaked.append(FILL * size)


def spike(size: int, seconds: float) -> None:
    """Hold `size` bytes in RSS for so long, then give them back."""
    block = FILL * size
    time.sleep(seconds)
    del block


def fragment(size: int) -> None:
    """Leave about `size` bytes of free heap that only malloc_trim gives back.

    The block at the highest address is kept and holds the heap's end up.
    """
    blocks = [FILL * BLOCK for _ in range(size // BLOCK)]
    if blocks:
        _leaked.append(max(blocks, key=id))  # in CPython an object's id is its address
    blocks.clear()


class SteadyLeak:
    """Leaks at a steady rate; told by `tick` how time passes.

    `rate` and `most` are bytes (a second, and altogether); `after_s` counts from the making.
    """

    def __init__(self, rate: float, most: float, after_s: float) -> None:
        self._rate = rate
        self._most = most
        self._from = time.monotonic() + after_s
        self._done = 0

    def tick(self) -> None:
        """Leak what is due by now."""
        due = min((time.monotonic() - self._from) * self._rate, self._most) - self._done
        if due >= 1:
            leak(int(due))
            self._done += int(due)


class Trace:
    """Appends "pid monotonic_ns rss_bytes" to a file, one write a line, for benchmarks."""

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o644)
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def tick(self) -> None:
        """Write one line."""
        pages = int(os.pread(self._statm, 128, 0).split()[1])
        line = f"{os.getpid()} {time.monotonic_ns()} {pages * mmap.PAGESIZE}\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        """Close both files."""
        os.close(self._file)
        os.close(self._statm)


# -- what is left behind -----------------------------------------------------------------------
def start_threads(count: int) -> None:
    """Start threads that wait for ever."""
    for _ in range(count):
        threading.Thread(target=threading.Event().wait, name="drill", daemon=True).start()


def open_descriptors(count: int) -> None:
    """Open descriptors and keep them."""
    _left_open.extend(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(count))


# -- time --------------------------------------------------------------------------------------
def burn(seconds: float) -> None:
    """Use so much processor time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def hang() -> NoReturn:
    """Wait for ever; what a signal handler raises gets out."""
    while True:  # short sleeps: a signal just before the call would wait for its end
        time.sleep(0.2)


def hang_in_native() -> NoReturn:
    """Wait for ever in C with the interpreter's lock held.

    Locks a mutex twice: unlike a sleep this is not cut short by a signal, and a Python handler
    has to wait until the call returns, which it does not.
    """
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(64)  # zeros are PTHREAD_MUTEX_INITIALIZER on Linux
    while True:
        libc.pthread_mutex_lock(mutex)


# -- death -------------------------------------------------------------------------------------
def segfault() -> NoReturn:
    """Die by SIGSEGV: read from address 0."""
    ctypes.string_at(0)
    raise AssertionError("address 0 was readable")


def abort() -> NoReturn:
    """Die by SIGABRT."""
    os.abort()
