"""Calls of Linux and libc, seen to do what they say, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Four threads are alive at once and allocate; how many heaps there are then.
HEAPS = """
import ctypes, sys, threading
from sttd import linux
if sys.argv[1] == "one":
    linux.one_arena()
all_there = threading.Barrier(4)
malloc = ctypes.CDLL(None).malloc
def allocate():
    malloc(ctypes.c_size_t(1000))
    all_there.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(linux.malloc_info().count(b"<heap "))
"""


def heaps(how: str) -> int:
    command = [sys.executable, "-c", HEAPS, how]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def test_with_one_arena_all_threads_share_a_heap() -> None:
    if heaps("many") < 2:
        pytest.skip("this libc gives threads no heaps of their own")
    assert heaps("one") == 1
