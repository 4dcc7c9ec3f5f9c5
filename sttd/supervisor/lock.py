"""One daemon per state directory: an flock held for life. Close-on-exec, so no child inherits it.

A ZeroMQ bind is no such guard: a second one silently takes the path over.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class HeldError(Exception):
    """Another daemon holds the state directory."""


class Lock:
    """Takes the lock or raises HeldError naming the holder."""

    def __init__(self, state_dir: Path) -> None:
        path = state_dir / "lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise HeldError(
                f"another sttd (pid {holder}) holds {state_dir}: "
                "stop it, or choose another state_dir"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go."""
        os.close(self._fd)
