"""How many may be connected at once: the door of unix sockets is shut while there are too many.

libzmq ends the whole process when accept says EMFILE on an ipc socket, and every connection costs
memory. So connections are counted as libzmq tells of them, in a thread of its own because the
event loop may be busy, and above a limit the sockets' names are taken away: nobody can connect,
whoever is connected is served, and connections without a handshake are dropped by libzmq after
HANDSHAKE_MS. Below three quarters of the limit the names come back. On tcp, where libzmq bears
EMFILE, the kernel drops what would open a connection.
"""

from __future__ import annotations

import os
import resource
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import zmq

MOST = 1024  # connections to both sockets
SHARE = 4  # at most a quarter of the descriptors this process may have
# zmq_socket_monitor(3): an accepted descriptor, and the ways by which it is given up
_OPENED = zmq.Event.ACCEPTED
_GONE = zmq.Event.DISCONNECTED | zmq.Event.CLOSED
_HEAD = struct.Struct("=Hi")  # the event, and the descriptor


def limit() -> int:
    """How many connections this process can bear."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(8, min(MOST, soft // SHARE))


class Entry(Protocol):
    """Where clients come in: `listener.UnixListener`, `gate.TcpListener`."""

    def shut(self) -> None:
        """Let nobody in."""

    def reopen(self) -> None:
        """Let everybody in again."""


class Door:
    """Counts and shuts, from its making until `stop`. `tell` is called in the door's own thread."""

    def __init__(
        self,
        sockets: Sequence[zmq.Socket[bytes]],
        listeners: Sequence[Entry],
        tell: Callable[[str], None],
        most: int | None = None,
    ) -> None:
        self._sockets = sockets
        self._listeners = listeners
        self._tell = tell
        self._most = limit() if most is None else most
        self._monitors = [each.get_monitor_socket(_OPENED | _GONE) for each in sockets]
        self._open: set[int] = set()  # descriptors, which libzmq's one thread opens and closes
        self._shut = False
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._watch, name="door", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch; before the sockets are closed."""
        os.eventfd_write(self._bell, 1)
        self._thread.join()
        for each in self._sockets:
            each.disable_monitor()
        os.close(self._bell)

    def _watch(self) -> None:
        poller = zmq.Poller()
        poller.register(self._bell, zmq.POLLIN)
        for monitor in self._monitors:
            poller.register(monitor, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._bell in ready:
                return
            for monitor in self._monitors:
                if monitor in ready:
                    self._count(monitor)

    def _count(self, monitor: zmq.Socket[bytes]) -> None:
        """Take what the monitor tells; the door is looked after at every change."""
        while monitor.poll(0):
            event, descriptor = _HEAD.unpack(monitor.recv_multipart()[0])
            if event == _OPENED:
                self._open.add(descriptor)
            else:
                self._open.discard(descriptor)
            self._look()

    def _look(self) -> None:
        count = len(self._open)
        if not self._shut and count >= self._most:
            self._shut = True
            for listener in self._listeners:
                listener.shut()
            self._tell(f"{count} clients are connected: nobody else can connect until some leave")
        elif self._shut and count < self._most * 3 // 4:
            self._shut = False
            for listener in self._listeners:
                listener.reopen()
            self._tell(f"{count} clients are connected: others can connect again")
