"""Give back what a job left behind: collect garbage, trim the heap, say what it brought.

Judges nothing: whether the worker may stay is the supervisor's decision.
"""

from __future__ import annotations

import gc

from sttd import linux


def rss_bytes() -> int:
    """This process's resident set now, in bytes (never rusage: it remembers the parent's peak)."""
    with open("/proc/self/statm", "rb", buffering=0) as file:
        return int(file.read(128).split()[1]) * linux.PAGE


class Tidier:
    """Tidies after each job; trims when it grew past `threshold` bytes since the last trim."""

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._base = rss_bytes()

    def tidy(self) -> tuple[int, int]:
        """RSS before and after, in bytes. Trims only when it grew past the threshold."""
        gc.collect()
        before = rss_bytes()
        after = before
        if before - self._base > self._threshold:
            linux.malloc_trim()
            after = self._base = rss_bytes()
        return before, after
