"""A process's vital signs from /proc, on descriptors kept open: microseconds a sample.

Reads only; judges nothing. RSS is statm's (current), the peak VmHWM: never rusage, which
survives exec and remembers the parent's peak. PSS walks the page tables (milliseconds per
hundred MiB), so it is read only when somebody asks.
"""

from __future__ import annotations

import contextlib
import os

from sttd.core.recycling import Vitals
from sttd.linux import PAGE


class GoneError(Exception):
    """The process has ended."""


class Probe:
    """Looks at one process until it is closed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            self._statm = os.open(f"/proc/{pid}/statm", flags)
            self._status = os.open(f"/proc/{pid}/status", flags)
        except OSError as error:
            raise GoneError(str(error)) from error

    def rss_bytes(self) -> int:
        """Resident set now, in bytes. Raises GoneError."""
        return int(self._read(self._statm, 128).split()[1]) * PAGE

    def vitals(self) -> Vitals:
        """Everything that is judged. Raises GoneError."""
        rss = self.rss_bytes()
        peak = threads = 0
        for line in self._read(self._status, 4096).splitlines():
            if line.startswith(b"VmHWM:"):
                peak = int(line.split()[1]) * 1024
            elif line.startswith(b"Threads:"):
                threads = int(line.split()[1])
        return Vitals(
            rss_bytes=rss, peak_rss_bytes=max(peak, rss), threads=threads, fds=self._fds()
        )

    def pss_bytes(self) -> int:
        """Proportional set size: shared pages divided by their users. 0 if not readable."""
        path = f"/proc/{self.pid}/smaps_rollup"
        with contextlib.suppress(OSError), open(path, "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
        return 0

    def close(self) -> None:
        """Let go of the descriptors."""
        os.close(self._statm)
        os.close(self._status)

    def _fds(self) -> int:
        try:
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        except OSError:
            return 0

    def _read(self, fd: int, size: int) -> bytes:
        try:
            data = os.pread(fd, size, 0)
        except ProcessLookupError as error:
            raise GoneError(str(error)) from error
        if not data or (fd == self._statm and data.startswith(b"0 0 ")):
            raise GoneError("it has no memory any more")
        return data
