"""Decoders, one to a worker; one whose worker has left in peace goes to the next worker.

A decoder is confined, does not grow (29 to 33 MiB over a thousand recordings) and is clean between
two jobs, so that forking, warming and ending another with every worker would only cost: half of
the CPU of a recycle. Whose worker was killed or died is killed, whatever it was doing. Mechanism
only.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable

from sttd.supervisor.child import Child

END_AFTER_S = 0.01  # what was asked because of its worker's end goes first
MOST_WORKERS = 20  # that one decoder serves, in case that one does grow


class Companion:
    """A decoder. `pcm` is the worker's end of its socket, kept so that it can be handed on."""

    def __init__(self, pcm: socket.socket) -> None:
        self.pcm = pcm
        self.child: Child | None = None
        self.workers = 1

    def end(self) -> None:
        """Kill it; one that is only on its way sees end of file, and follows."""
        self.pcm.close()
        if self.child is not None:
            self.child.send_signal(signal.SIGKILL)


class Companions:
    """All decoders. `on_quiet` is called when the last one has gone."""

    def __init__(self, on_quiet: Callable[[], None]) -> None:
        self.living = 0
        self._spare: Companion | None = None
        self._ending: dict[Companion, asyncio.TimerHandle] = {}
        self._closed = False
        self._on_quiet = on_quiet

    def take(self) -> tuple[Companion, socket.socket | None]:
        """One for a new worker; and, where it has yet to be forked, the end that is to be its."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.workers += 1
            return spare, None
        pcm, decoder = socket.socketpair()
        return Companion(pcm), decoder

    def hold(self, companion: Companion, pid: int) -> None:
        """It exists. Raises ProcessLookupError when it has gone already."""
        companion.child = Child(pid, lambda _code, _number: self._gone(companion))
        self.living += 1

    def leave(self, companion: Companion, *, clean: bool) -> None:
        """Its worker has gone; `clean`: in peace, and between two jobs."""
        fit = companion.child is not None and companion.workers < MOST_WORKERS
        if clean and fit and self._spare is None:
            self._spare = companion
        elif self._closed:
            companion.end()
        else:  # its end takes the processor for a while, and a job waits for a fresh worker
            timer = asyncio.get_running_loop().call_later(END_AFTER_S, self._end, companion)
            self._ending[companion] = timer

    def close(self) -> None:
        """Nobody comes after the last worker."""
        self._closed = True
        if self._spare is not None:
            self._spare.end()
            self._spare = None
        for companion, timer in list(self._ending.items()):
            timer.cancel()
            self._end(companion)

    def _end(self, companion: Companion) -> None:
        del self._ending[companion]
        companion.end()

    def _gone(self, companion: Companion) -> None:
        companion.child = None  # its worker notices by end of file, and leaves
        self.living -= 1
        if companion is self._spare:
            self._spare = None
            companion.pcm.close()
        if not self.living:
            self._on_quiet()
