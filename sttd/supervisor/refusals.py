"""What the inbox refuses and why, and what has been said of it already. Touches no file."""

from __future__ import annotations

import os
import stat

MAX_TOLD = 10_000  # refused files remembered; beyond that they are refused in silence


class Told:
    """What was refused, so that it is said once; forgets what is no longer met."""

    def __init__(self) -> None:
        self._marks: dict[str, tuple[int, int]] = {}  # name -> (what, latest round)
        self._round = 0

    def is_news(self, name: str, what: object) -> bool:
        """Whether this is to be said; notes it."""
        mark, known = hash(what), self._marks.get(name)
        if known is None and len(self._marks) >= MAX_TOLD:
            return False
        self._marks[name] = (mark, self._round)
        return known is None or known[0] != mark

    def keep(self, name: str) -> None:
        """The file was met in this walk, whatever may be said of it later."""
        known = self._marks.get(name)
        if known is not None:
            self._marks[name] = (known[0], self._round)

    def begin_round(self) -> None:
        """A walk over the whole inbox begins."""
        self._round += 1

    def end_round(self) -> None:
        """Forget what this walk has not met."""
        # a copy: what could not be moved is noted meanwhile, by another thread
        marks = list(self._marks.items())
        gone = [name for name, (_, latest) in marks if latest < self._round]
        for name in gone:
            del self._marks[name]


def no_plain_file(status: os.stat_result) -> str | None:
    """Why this is not taken; None for a plain file with one name."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        if status.st_nlink == 1:
            return None
        return f"it has {status.st_nlink} names (hard links); copy it instead"
    if stat.S_ISLNK(mode):
        return "a symbolic link is not followed; put the file itself there"
    if stat.S_ISFIFO(mode):
        return "a named pipe is no file"
    return "a socket is no file" if stat.S_ISSOCK(mode) else "a device is no file"
