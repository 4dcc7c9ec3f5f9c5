"""A recording as an engine sees it, its samples coming from the companion decoder.

One object a job, over the worker's one socket to its decoder and a fresh pipe. It decodes
nothing and judges nothing: what the decoder refuses is raised, its death likewise.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

from sttd.engines import EngineError
from sttd.wire.frames import FrameError
from sttd.wire.messages import (
    Decode,
    Decoded,
    DecodeLimits,
    FromDecoder,
    Probed,
    Skipped,
    Undecodable,
)
from sttd.worker.channel import Channel
from sttd.worker.stream import CHUNK, EXACT_LENGTH, Listening, UndecodableError, open_audio

__all__ = ["DecodedAudio", "DecoderDiedError", "UndecodableError"]

DRAIN_S = 10.0  # a decoder notices a closed pipe at its next write, within a fraction of a second


class DecoderDiedError(Exception):
    """The decoder is gone, or no longer answers; the worker can do no further job."""


class DecodedAudio(Listening):
    """Implements `sttd.engines.Audio`. Iterate once, in any thread; then `close()`.

    The constructor asks the decoder and returns when the header was read (and what lies before
    `start_s` decoded). It and the iteration raise UndecodableError, whose `code` says why, and
    DecoderDiedError; the constructor also OSError when `path` cannot be opened. The socket stays
    the caller's.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        path: str,
        name: str,
        start_s: float,
        limits: DecodeLimits,
        on_progress: Callable[[float], None],
        on_report: Callable[[EngineError], None],
        interval_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            path=path,
            name=name,
            start_s=start_s,
            on_progress=on_progress,
            on_report=on_report,
            interval_s=interval_s,
            clock=clock,
        )
        self._channel: Channel[FromDecoder] = Channel(sock, FromDecoder)
        self._reading = threading.Lock()
        self._closed = False
        self._owed = False  # the decoder still has to send its verdict
        self._known = False  # the header tells the length
        self._refusal: UndecodableError | None = None
        self._pipe = -1
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            self._ask(Decode(name=name, start_s=start_s, limits=limits))
            self._await_header()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._read():
            self._handed_out(len(chunk))
            yield chunk

    def count(self) -> None:
        """Make `total_s` true: where the header does not tell, decode what was not asked for.

        For engines that read `path`, or not to the end. Raises as the iteration does.
        """
        if self._counted_s is None and not self._known:
            for _ in self:
                pass

    def close(self) -> None:
        """Let go of the pipe; wait until the decoder is ready for the next job. Idempotent.

        A reading in another thread ends with ValueError. A decoder that does not come back within
        `DRAIN_S` is given up: the socket is shut down, which both sides see as end of file.
        """
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._wake, 1)
        with self._reading:
            self._close_pipe()
            if self._owed:
                self._drain()
            os.close(self._wake)

    def _ask(self, order: Decode) -> None:
        audio = open_audio(self.path)
        try:
            self._pipe, writing = os.pipe()
            try:
                self._channel.send(order, (audio, writing))
            finally:
                os.close(writing)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise DecoderDiedError("the decoder is gone") from error
        finally:
            os.close(audio)
        self._owed = True

    def _await_header(self) -> None:
        while True:
            match self._receive():
                case Skipped(position_s=position_s):
                    self._tell(position_s)
                case Probed(duration_s=duration_s, format=container):
                    self.duration_s = duration_s
                    self._known = duration_s is not None and container in EXACT_LENGTH
                    return
                case Decoded() | Undecodable():
                    self._judge()
                    return

    def _read(self) -> bytes:
        """The next chunk; empty at the end. Blocks; `close` in another thread ends it."""
        with self._reading:
            if self._closed:
                raise ValueError(f"{self.name}: read after close")
            if self._pipe < 0:
                self._judge()
                return b""
            self._wait()
            chunk = os.read(self._pipe, CHUNK)
            if len(chunk) % 2:  # half a sample: the rest is on its way
                chunk += os.read(self._pipe, 1)
            if not chunk:
                self._close_pipe()
                self._await_verdict()
            return chunk

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        poll.poll()
        if self._closed:
            raise ValueError(f"{self.name}: closed while it was read")

    def _await_verdict(self) -> None:
        while self._owed:
            self._receive()
        self._judge()

    def _judge(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _receive(self) -> FromDecoder:
        try:
            message, _ = self._channel.recv()
        except (EOFError, FrameError) as error:
            self._owed = False
            raise DecoderDiedError(f"the decoder died while decoding {self.name}") from error
        match message:
            case Decoded(duration_s=duration_s, damage=damage):
                self._owed = False
                self._counted_s = duration_s
                self.damage = damage
            case Undecodable(code=code, message=text):
                self._owed = False
                self._refusal = UndecodableError(f"{self.name}: {text}", code)
        return message

    def _drain(self) -> None:
        sock = self._channel.sock
        deadline = time.monotonic() + DRAIN_S
        try:
            while self._owed:
                sock.settimeout(max(deadline - time.monotonic(), 0.001))
                self._receive()
        except TimeoutError:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        except DecoderDiedError:
            pass  # the worker sees the end of file when it looks
        finally:
            sock.settimeout(None)

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
