"""How many may be connected at once, and how much of the daemon's memory they may take.

libzmq ends the whole process when accept says EMFILE on an ipc socket, and every connection costs
memory. So connections are counted as libzmq tells of them, in a thread of its own because the
event loop may be busy, and above a limit the sockets' names are taken away: nobody can connect,
whoever is connected is served, and connections without a handshake are dropped by libzmq after
HANDSHAKE_MS. Below three quarters of the limit the names come back. On tcp, where libzmq bears
EMFILE, the kernel drops what would open a connection.

libzmq bounds a frame, but not how many make up a message, and hands none over before the last has
come; nor how much waits for a peer that reads nothing. So while anybody is connected the process's
memory is looked at, and when it has grown by more than clients can make it grow honestly, all of
them are disconnected: what was half there is freed, and honest clients come again by themselves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import zmq

from sttd.linux import PAGE
from sttd.supervisor import descriptors

MOST_GROWN = 128 << 20  # bytes of memory; 64 requests and 32 uploads take far less
WEIGH_MS = 100  # while anybody is connected
SETTLE_S = 1.0  # until what the disconnected have left is freed
# zmq_socket_monitor(3): an accepted descriptor, and the ways by which it is given up
_OPENED = zmq.Event.ACCEPTED
_GONE = zmq.Event.DISCONNECTED | zmq.Event.CLOSED
_HEAD = struct.Struct("=Hi")  # the event, and the descriptor


class Entry(Protocol):
    """Where clients come in: `listener.UnixListener`, `gate.TcpListener`."""

    fd: int

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
        self._listeners = listeners
        self._tell = tell
        self._most = descriptors.for_clients() if most is None else most
        self._monitors = [_monitor(each) for each in sockets]
        self._open: set[int] = set()  # descriptors, which libzmq's one thread opens and closes
        self._shut = False
        self._names = set()
        for listener in listeners:
            with _another(listener.fd) as line:
                self._names.add(_name(line))
        self._grown_from = _memory()
        self._weigh_at = 0.0  # not before; time.monotonic()
        self._cut = False  # everybody off, a moment ago
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._watch, name="door", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch; before the sockets are closed, which ends their monitors.

        To end those here would need a lock that libzmq holds while it waits to be read.
        """
        os.eventfd_write(self._bell, 1)
        self._thread.join()
        for monitor in self._monitors:
            monitor.close(0)
        os.close(self._bell)

    def _watch(self) -> None:
        poller = zmq.Poller()
        poller.register(self._bell, zmq.POLLIN)
        for monitor in self._monitors:
            poller.register(monitor, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(WEIGH_MS if self._open else None))
            if self._bell in ready:
                return
            for monitor in self._monitors:
                if monitor in ready:
                    self._count(monitor)
            if self._open:
                self._weigh()

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

    def _weigh(self) -> None:
        """Disconnect everybody when the process has grown too much."""
        now = time.monotonic()
        if now < self._weigh_at:
            return
        self._weigh_at = now + WEIGH_MS / 1000  # not with each of a flood: counting comes first
        try:
            memory = _memory()
        except OSError:  # no descriptor left for a moment: libzmq would wait for this thread
            return
        if self._cut:  # they were disconnected a moment ago: this is what is left
            self._cut, self._grown_from = False, memory
        elif memory - self._grown_from > MOST_GROWN:
            self._cut, self._weigh_at = True, now + SETTLE_S
            for descriptor in self._open:
                self._disconnect(descriptor)
            self._tell(
                f"memory grew by {memory - self._grown_from >> 20} MiB while {len(self._open)} "
                "clients were connected: all were disconnected"
            )
        else:
            self._grown_from = min(self._grown_from, memory)

    def _disconnect(self, descriptor: int) -> None:
        """Shut one down, unless libzmq has closed it and the number is another's by now."""
        with contextlib.suppress(OSError), _another(descriptor) as line:
            if _name(line) in self._names:
                line.shutdown(socket.SHUT_RDWR)


def _monitor(watched: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """Where libzmq tells of connections.

    It waits, with accepting too, when it could not tell of the last thousand: of those that it
    may queue for a PAIR, to which ours adds as few as can be. So a rush is bounded however late
    the door comes to look.
    """
    where = f"inproc://door-{os.urandom(8).hex()}"
    watched.monitor(where, _OPENED | _GONE)
    monitor: zmq.Socket[bytes] = watched.context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.RCVHWM, 1)
    monitor.connect(where)
    return monitor


@contextlib.contextmanager
def _another(descriptor: int) -> Iterator[socket.socket]:
    """A socket of libzmq's by a descriptor of our own. Raises OSError where it is no socket."""
    own = os.dup(descriptor)
    try:
        line = socket.socket(fileno=own)
    except OSError:
        os.close(own)
        raise
    with line:
        yield line


def _name(line: socket.socket) -> object:
    """What connections have in common with the socket they came in by: its path, or its port."""
    name: object = line.getsockname()
    return name[1] if isinstance(name, tuple) else name


def _memory() -> int:
    """Of this process, resident, in bytes."""
    with open("/proc/self/statm", "rb", buffering=0) as file:
        return int(file.read(128).split()[1]) * PAGE
