"""Tell systemd: sd_notify(3) datagrams. Does nothing when not started by systemd."""

from __future__ import annotations

import contextlib
import os
import socket


class Notify:
    """The notify socket named by $NOTIFY_SOCKET, and the watchdog's interval."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        ours = os.environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = os.environ.pop("WATCHDOG_USEC", "0")
        # half the period, as sd_watchdog_enabled(3) advises; 0: no watchdog
        self.watchdog_s = int(period) / 2e6 if ours and period.isdigit() else 0.0

    def send(self, *lines: str) -> None:
        """Send assignments such as READY=1; a deaf systemd is no reason to stop."""
        if self._address:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
