"""inotify(7) as it is: watches in, events out, on a descriptor for the event loop. No policy.

Unlike the libraries at hand it needs no thread, does not poll, tells of an overflow and of a
used-up limit of watches, and hands on names that are not UTF-8.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final, NamedTuple

# <sys/inotify.h>; they are ABI and do not change
ATTRIB: Final = 0x4
CLOSE_WRITE: Final = 0x8
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
UNMOUNT: Final = 0x2000
Q_OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
ONLYDIR: Final = 0x1000000
EXCL_UNLINK: Final = 0x4000000
ISDIR: Final = 0x40000000

_HEAD = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_CHUNK = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


class Event(NamedTuple):
    """Something happened to `name` in the folder of the watch, or to that folder itself ("")."""

    watch: int  # -1 for an overflow
    mask: int
    name: str  # by surrogateescape


class Inotify:
    """One instance. Raises OSError: ENOSPC at the limit of watches, EMFILE at that of instances."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")

    def fileno(self) -> int:
        """The descriptor; readable when there are events."""
        return self._fd

    def add(self, path: str, mask: int) -> int:
        """Watch a folder; the number of the watch, the same when it is watched already."""
        return _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), mask), path)

    def read(self) -> list[Event]:
        """Events that have come, a bounded number of them; none when there are none."""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return []
        events, at = [], 0
        while at < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            events.append(Event(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
            at += length
        return events

    def close(self) -> None:
        """Forget all watches."""
        os.close(self._fd)


def _checked(result: int, what: str) -> int:
    if result >= 0:
        return result
    number = ctypes.get_errno()
    if number == errno.ENOSPC:  # which would read as a full disk
        raise OSError(number, "no inotify watch is left; raise fs.inotify.max_user_watches", what)
    raise OSError(number, os.strerror(number), what)
