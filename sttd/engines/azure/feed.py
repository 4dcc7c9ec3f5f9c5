"""Audio on its way into the SDK: a bounded buffer that the SDK's thread pulls from.

The caller's thread fills it, so that the `Audio` is iterated, and its errors are raised, where the
job runs; the SDK's thread empties it at its own pace, which is the backpressure. Until the
connection stands nothing is handed over, so that a refused token costs no audio.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

CAPACITY = 128 * 1024  # bytes: 4 s, two of the largest chunks; the SDK reads 200 ms at a time


class Feed:
    """Bytes in order, from the caller's thread to the SDK's."""

    def __init__(self, on_room: Callable[[], None]) -> None:
        self.session = 0  # whose reads are answered; others are over
        self.taken = 0  # bytes handed to the SDK
        self.drained = False  # the SDK was told of the end
        self._on_room = on_room
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._chunks: deque[bytes] = deque()
        self._at = 0  # bytes of the first chunk that are gone
        self._size = 0
        self._open = False  # the connection stands
        self._ended = False  # no more will come
        self._asked = False  # the caller waits for room

    def has_room(self) -> bool:
        """Whether to put more; if not, `on_room` is called once there is, on the SDK's thread."""
        with self._changed:
            self._asked = self._size >= CAPACITY
            return not self._asked and not self._ended

    def put(self, chunk: bytes) -> None:
        """Add a chunk."""
        with self._changed:
            self._chunks.append(chunk)
            self._size += len(chunk)
            self._changed.notify()

    def end(self) -> None:
        """No more chunks will come."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def open(self) -> None:
        """The connection stands: hand over."""
        with self._changed:
            self._open = True
            self._changed.notify()

    def leave(self) -> None:
        """Let this session's thread go, told that its audio is at an end; the next may come."""
        with self._changed:
            self.session += 1
            self._open = False
            self._changed.notify_all()

    def read(self, session: int, size: int) -> bytes:
        """The next `size` bytes at most; none are the end. Called on the SDK's thread, may wait.

        For every 200 ms of audio: so the lock itself is taken, the Condition does it in Python.
        """
        with self._lock:
            while session == self.session and not (self._open and (self._size or self._ended)):
                self._changed.wait()
            if session != self.session:
                return b""
            part = self._take(size)
            self.taken += len(part)
            self._size -= len(part)
            self.drained = self.drained or not part
            room = self._asked and self._size <= CAPACITY // 2
            if room:
                self._asked = False
        if room:
            self._on_room()
        return part

    def _take(self, size: int) -> bytes:
        part = b""
        while self._chunks and len(part) < size:
            chunk, end = self._chunks[0], self._at + size - len(part)
            part = part + chunk[self._at : end] if part else chunk[self._at : end]
            self._at = end
            if end >= len(chunk):
                self._chunks.popleft()
                self._at = 0
        return part
