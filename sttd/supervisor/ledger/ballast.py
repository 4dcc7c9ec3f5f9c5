"""A file that only takes up room, so that there is some when the disk is full.

Deleted when the ledger meets a full disk, so that ends and failures can still be recorded; made
again when there is room. Decides nothing about jobs.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

DEFAULT_BYTES = 64 << 20


class Ballast:
    """The file at `path`, `size` bytes long (0: none is wanted)."""

    def __init__(self, path: Path, size: int = DEFAULT_BYTES) -> None:
        self.path = path
        self.size = size

    @property
    def held(self) -> bool:
        """Is it there in full, or not wanted?"""
        return self.size == 0 or self._length() >= self.size

    def release(self) -> bool:
        """Delete it; False when there was nothing to delete."""
        had = self._length() > 0
        self.path.unlink(missing_ok=True)
        return had

    def restore(self, keep_free: int = 0) -> bool:
        """Make it unless that would leave less than `keep_free` bytes free; is it there now?

        Blocks are allocated, not only promised. A disk without room is no error.
        """
        if self.held:
            return True
        disk = os.statvfs(self.path.parent)
        if disk.f_bavail * disk.f_frsize < self.size - self._length() + keep_free:
            return False
        try:
            self._allocate()
        except OSError:
            with contextlib.suppress(OSError):
                self.release()
            return False
        return True

    def _allocate(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size)
        finally:
            os.close(descriptor)

    def _length(self) -> int:
        try:
            return self.path.lstat().st_size
        except OSError:
            return 0
