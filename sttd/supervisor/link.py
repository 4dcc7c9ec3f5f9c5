"""One end of a socketpair on the asyncio loop: whole messages in, whole messages out.

Never blocks: what the kernel does not take at once waits in a bounded buffer. Reports end of
file once; interprets nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sttd.wire.frames import FrameBuffer, FrameError, frame

MOST_UNSENT = 1 << 20  # bytes; a peer that leaves more unread is as good as dead
CHUNK = 1 << 16


class Link:
    """A message link. `on_message` per message, `on_end` once at end of file or nonsense."""

    def __init__(
        self,
        sock: socket.socket,
        decoder: msgspec.msgpack.Decoder[Any],
        on_message: Callable[[Any], None],
        on_end: Callable[[str], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()
        self._frames = FrameBuffer()
        self._unsent = bytearray()
        self._waiting = False  # for the kernel to take more
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: msgspec.Struct, fds: Sequence[int] = ()) -> None:
        """Queue one message; descriptors go with it at once or not at all (OSError)."""
        if not self._open:
            return
        data = frame(self._encoder.encode(message))
        if fds:
            sent = socket.send_fds(self._sock, [data], list(fds))
            data = data[sent:]
        if not data:
            return
        self._unsent += data
        self._flush()
        if self._unsent and not self._waiting and self._open:
            self._waiting = True
            self._loop.add_writer(self._sock.fileno(), self._flush)

    def drain(self) -> None:
        """Read what has already arrived; for a peer that has just died."""
        while self._open and self._read():
            pass

    def finish(self) -> None:
        """Say no more; what the peer still says is heard."""
        if self._open:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Forget the peer."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()

    def _readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._end(str(error))
        if not data:
            return self._end("end of file")
        try:
            for body in self._frames.feed(data):
                self._on_message(self._decoder.decode(body))
        except (FrameError, msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._end(f"nonsense: {error}")
        return True

    def _end(self, why: str) -> bool:
        if self._open:
            self.close()
            self._on_end(why)
        return False

    def _flush(self) -> None:
        if not self._open:
            return
        try:
            sent = self._sock.send(self._unsent)
            del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(str(error))
            return
        if not self._unsent and self._waiting:
            self._waiting = False
            self._loop.remove_writer(self._sock.fileno())
        elif len(self._unsent) > MOST_UNSENT:
            self._end(f"{len(self._unsent)} bytes lie unread")
