"""Whether anybody still writes a file: a read lease, taken and given back at once.

A read lease is refused with EAGAIN while the file is open for writing anywhere on this machine:
by an idle writer, by a forked child that only inherited the descriptor, or through a writable
mapping whose descriptor was closed (fcntl(2), "Leases"). It needs the file's owner or CAP_LEASE,
and a local file system. It cannot see an uploader that closes and opens again.

Whoever holds a lease gets SIGIO when another process opens the file, and SIGIO's default is to
kill: call `ignore_sigio` once in every process that probes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import signal


def ignore_sigio() -> None:
    """Let a lease that is broken during the few microseconds of a probe pass unnoticed."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def is_being_written(descriptor: int) -> bool | None:
    """Whether some process has this file open for writing; None where that cannot be told.

    `descriptor` must be open for reading only.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
