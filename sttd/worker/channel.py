"""Whole messages, with descriptors beside them, over a blocking Unix stream socket.

Used by the template, the workers and the decoders, each of which talks to one peer. It does not
interpret messages, multiplex, or reconnect: end of file is the peer's death.
"""

from __future__ import annotations

import array
import contextlib
import functools
import os
import socket
import threading
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from sttd.wire.frames import HEADER, MAX_FRAME, FrameError, frame

T = TypeVar("T")

MAX_FDS = 8  # beside one message; more is a broken peer
_INT = array.array("i").itemsize
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * _INT)


@functools.cache
def decoder_of(decoder_type: Any) -> msgspec.msgpack.Decoder[Any]:
    """One for all channels: made in the template, it costs its children nothing."""
    return msgspec.msgpack.Decoder(decoder_type)


class Channel(Generic[T]):
    """Sends any msgspec struct; receives messages of `decoder_type` (a struct or a union of them).

    `send` may be called from several threads at once, `recv` from one at a time. The channel owns
    the socket: `close()` closes it. On a socket with a timeout, `recv` may be called again after
    TimeoutError: nothing that was read so far is lost.
    """

    def __init__(self, sock: socket.socket, decoder_type: Any) -> None:
        self.sock = sock
        self._decoder: msgspec.msgpack.Decoder[T] = decoder_of(decoder_type)
        self._encoder = msgspec.msgpack.Encoder()
        self._sending = threading.Lock()
        self._data = bytearray()
        self._fds: list[int] = []

    def fileno(self) -> int:
        """The socket's descriptor, for select."""
        return self.sock.fileno()

    def send(self, message: msgspec.Struct, fds: Sequence[int] = ()) -> None:
        """Send one message and duplicates of `fds`; the caller keeps and closes its own.

        Raises FrameError when the message is too long, BrokenPipeError or ConnectionResetError
        when the peer is gone.
        """
        data = memoryview(frame(self._encoder.encode(message)))
        with self._sending:
            # the descriptors travel with the first byte; a short write is completed without them
            sent = socket.send_fds(self.sock, [data], list(fds)) if fds else 0
            if sent < len(data):
                self.sock.sendall(data[sent:])

    def recv(self) -> tuple[T, list[int]]:
        """The next message and the descriptors that came with it (close-on-exec, now the caller's).

        Raises EOFError when the peer is gone, FrameError when it does not speak this protocol
        (the channel is of no use afterwards). Reads exactly one frame and never a byte beyond:
        so every descriptor received belongs to this message.
        """
        try:
            self._fill(HEADER.size)
            self._fill(HEADER.size + self._length())
            message = self._decode(memoryview(self._data)[HEADER.size :])
        except (EOFError, FrameError):
            self._drop()
            raise
        fds, self._fds, self._data = self._fds, [], bytearray()
        return message, fds

    def close(self) -> None:
        """Close the socket and whatever descriptors came with half a message."""
        self._drop()
        self.sock.close()

    def _length(self) -> int:
        length = int(HEADER.unpack_from(self._data)[0])
        if length > MAX_FRAME:
            raise FrameError(f"a frame of {length} bytes was announced")
        return length

    def _decode(self, body: memoryview) -> T:
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FrameError(f"not a message of this protocol: {error}") from error

    def _fill(self, size: int) -> None:
        while len(self._data) < size:
            try:
                data, ancillary, flags, _ = self.sock.recvmsg(
                    size - len(self._data), _ANCILLARY, socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionResetError as error:  # it died with our bytes unread
                raise EOFError("the peer is gone") from error
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    whole = len(payload) - len(payload) % _INT
                    self._fds.extend(array.array("i", payload[:whole]))
            if flags & socket.MSG_CTRUNC:
                raise FrameError(f"more than {MAX_FDS} descriptors came with a message")
            if not data:
                raise EOFError("the peer is gone")
            self._data += data

    def _drop(self) -> None:
        fds, self._fds, self._data = self._fds, [], bytearray()
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
