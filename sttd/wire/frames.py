"""Length-prefixed frames out of a byte stream, and messages in and out of frames. Sans-IO.

A frame is a 4-byte big-endian length and that many bytes. A frame longer than `MAX_FRAME`
is a broken peer: `FrameError`, never a large allocation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER = struct.Struct(">I")
MAX_FRAME = 1 << 20  # bytes; segments and results are files, messages are small


class FrameError(ValueError):
    """The peer does not speak this protocol."""


def frame(body: bytes) -> bytes:
    """One frame ready to be sent; raises FrameError when the body is too long."""
    if len(body) > MAX_FRAME:
        raise FrameError(f"a message of {len(body)} bytes exceeds {MAX_FRAME}")
    return HEADER.pack(len(body)) + body


class FrameBuffer:
    """Collects received bytes and gives back whole frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take received bytes; yield the body of every frame that is complete by now."""
        self._data += data
        while len(self._data) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._data)
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes was announced")
            end = HEADER.size + length
            if len(self._data) < end:
                return
            body = bytes(self._data[HEADER.size : end])
            del self._data[:end]
            yield body
