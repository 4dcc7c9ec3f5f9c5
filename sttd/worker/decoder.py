"""The decoder process's work: one recording after another, from a descriptor into a pipe.

Talks to one worker over a socketpair, opens no file, holds no credentials and is single-threaded.
Whatever a recording does to it is answered with `Undecodable`, or is this process's own death,
which the worker sees as end of file.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator

from sttd.wire.messages import Decode, Decoded, Skipped, Undecodable
from sttd.worker import pcm, sandbox
from sttd.worker.channel import Channel
from sttd.worker.stream import UndecodableError

SKIPPED_EVERY_S = 0.5  # so often it tells the worker that it is alive before the first sample


class AbandonedError(Exception):
    """The worker has closed its end of the pipe."""


def serve(sock: socket.socket) -> None:
    """Do what the worker asks; returns when it is gone.

    Each `Decode` comes with two descriptors: the recording, and the pipe's end to write to. Sent
    back: `Skipped` now and then while nothing can be delivered yet, `Probed` before the first
    sample, and when the pipe is closed one `Decoded` or `Undecodable`. Raises FrameError or
    ValueError when the worker does not speak the protocol.
    """
    channel: Channel[Decode] = Channel(sock, Decode)
    while True:
        try:
            order, (audio, pipe) = channel.recv()
        except EOFError:
            return
        try:
            verdict = _decode(channel, order, audio, pipe)
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            os.close(audio)
            os.close(pipe)
        try:
            channel.send(verdict)
        except (BrokenPipeError, ConnectionResetError):
            return


def _decode(
    channel: Channel[Decode], order: Decode, audio: int, pipe: int
) -> Decoded | Undecodable:
    sandbox.grant_cpu(order.limits.max_duration_s)
    alive = _Alive(channel, pipe)
    try:
        with pcm.open_recording(audio, order.limits, alive) as recording:
            chunks = recording.pcm(order.start_s, alive)
            first = next(chunks, b"")
            channel.send(recording.probed)
            _write(pipe, first)
            _write_all(pipe, chunks)
            return Decoded(duration_s=recording.position_s, damage=recording.damage)
    except UndecodableError as error:
        return Undecodable(code=error.code, message=str(error))
    except AbandonedError:
        return Undecodable(code="abandoned", message="the worker lost interest")
    except MemoryError:
        return Undecodable(code="undecodable", message="decoding it takes too much memory")
    except (BrokenPipeError, ConnectionResetError):
        raise  # the worker is gone
    except Exception as error:  # noqa: BLE001 (foreign bytes may bring anything out of a C library)
        message = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Undecodable(code="undecodable", message=message)


class _Alive:
    """Called for each chunk that is not delivered: tells the worker, notices its loss of interest.

    Decoding what comes before a late start takes minutes; silence would pass for a stall.
    """

    def __init__(self, channel: Channel[Decode], pipe: int) -> None:
        self._channel = channel
        self._told = time.monotonic()
        self._poll = select.poll()
        self._poll.register(pipe, 0)  # POLLERR alone: no reader is left

    def __call__(self, position_s: float) -> None:
        now = time.monotonic()
        if now - self._told >= SKIPPED_EVERY_S:
            self._told = now
            if self._poll.poll(0):
                raise AbandonedError
            self._channel.send(Skipped(position_s=position_s))


def _write_all(pipe: int, chunks: Iterator[bytes]) -> None:
    for chunk in chunks:
        _write(pipe, chunk)


def _write(pipe: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[os.write(pipe, view) :]
    except BrokenPipeError as error:
        raise AbandonedError from error
