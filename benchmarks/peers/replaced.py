"""How many workers a pool replaced, by the pids that its jobs answer with."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Replaced:
    """A pid that was not there before is a worker that took another's place."""

    def __init__(self, workers: int, warm: Callable[[], Iterable[int]]) -> None:
        """Run jobs by `warm` until each of the first workers has done one."""
        self._seen: set[int] = set()
        while len(self._seen) < workers:
            self.count(warm())

    def count(self, pids: Iterable[int]) -> int:
        """New ones among those who did these jobs."""
        new = set(pids) - self._seen
        self._seen |= new
        return len(new)
