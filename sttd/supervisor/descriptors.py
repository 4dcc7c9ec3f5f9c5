"""How many descriptors each use may have, so that clients always find one.

libzmq ends the whole process when the kernel has no descriptor for a client on a unix socket. So
a share is kept for clients and one for files that are open for a moment, and workers, which hold
theirs for as long as they live, get what is left over. Counts; opens and closes nothing.
"""

from __future__ import annotations

import errno
import os
import resource

MOST_CLIENTS = 1024
# Accepted before the door is shut, at the very most: as many as libzmq queues to tell of, for each
# of the two sockets (measured with 4.3.5; its sockets' default high-water mark is 1,000).
MOST_IN_A_RUSH = 2 * 1001
MOST_FILES = 768  # two batches of 128 recordings, by three each
A_WORKER = 12  # while one is made: two socketpairs, a pipe, a memfd, and what comes after them
ON_ITS_WAY = 4  # still to be opened for one that was asked for: two pidfds, statm, status


def limit() -> int:
    """How many this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def for_clients() -> int:
    """Connections to both sockets: at most a quarter."""
    return max(8, min(MOST_CLIENTS, limit() // 4))


def for_a_rush() -> int:
    """Connections above that: of a flood, until it is noticed. Whole from a limit of 16,016 on."""
    return min(MOST_IN_A_RUSH, limit() // 8)


def for_files() -> int:
    """Recordings, uploads, outputs, the ledger's: open for a moment each."""
    return max(8, min(MOST_FILES, limit() // 8))


def recordings_at_once() -> int:
    """Claimed together: three each while they are synced, of one batch and of the one before."""
    return max(1, for_files() // 6)


def uploads_at_once() -> int:
    """One each, from the first byte to the last."""
    return for_files() // 2


def require(on_their_way: int) -> None:
    """Whether there are enough for one more worker, beside `on_their_way` asked for already.

    Raises OSError (EMFILE) that says what to do.
    """
    may, kept = limit(), for_clients() + for_a_rush() + for_files()
    used = len(os.listdir("/proc/self/fd"))
    if used + on_their_way * ON_ITS_WAY + A_WORKER + kept > may:
        raise OSError(
            errno.EMFILE,
            f"{os.strerror(errno.EMFILE)}: of {may} {used} are in use, and {kept} are kept for "
            "clients and files; raise LimitNOFILE= (ulimit -n), or have fewer workers",
        )
