"""The walls around a decoder: what it may use, and what it can no longer reach.

Resource limits, no privileges, no core dump, no inherited environment, and where the kernel has
Landlock and seccomp: no file, no network, no other process. Called by the decoder itself before it
sees the first foreign byte; every step only takes something away. Knows nothing of audio.
"""

from __future__ import annotations

import os
import resource
import signal

from sttd import linux
from sttd.worker import walls

HEADROOM = 512 << 20  # bytes of address space beyond what is mapped at the start
SPARE_FDS = 16  # beyond the highest one open: a job needs five
CPU_BASE_S = 60.0  # CPU time granted to every job,
CPU_SHARE = 0.25  # and for each second that the recording may last; decoding takes 0.002 to 0.01


def confine() -> tuple[str, ...]:
    """Put up the walls, for good. Import everything before: no file can be opened afterwards.

    Returns which of the kernel's optional walls stand: "landlock", "seccomp". Raises OSError when
    one of the others is refused; a decoder must not run without.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's business
    os.environ.clear()
    linux.no_new_privileges()
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)  # no file can be written; pipes and sockets are none
    _lower(resource.RLIMIT_NOFILE, _highest_fd() + 1 + SPARE_FDS)
    _lower(resource.RLIMIT_NPROC, 0)  # no thread, no child (root is exempt)
    _lower(resource.RLIMIT_AS, _mapped_bytes() + HEADROOM)
    linux.not_dumpable()  # from here on /proc/self belongs to root
    optional = {"landlock": walls.landlock, "seccomp": walls.seccomp}
    return tuple(name for name, put_up in optional.items() if put_up())


def try_out() -> tuple[str, ...]:
    """Which of the optional walls stand on this machine: a child puts them up and ends.

    Behind them nothing can be printed to a file. Raises OSError like `confine`.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writer, " ".join(confine()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as told:
        standing = tuple(told.read().split())
    if os.waitpid(child, 0)[1] != 0:
        raise OSError("a decoder's walls were refused: see its resource limits")
    return standing


def grant_cpu(max_duration_s: float) -> None:
    """CPU time for one job, counted from now; whoever uses more dies by SIGXCPU.

    Far more than any recording needs: it ends what loops inside a codec.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = used.ru_utime + used.ru_stime + CPU_BASE_S + max_duration_s * CPU_SHARE
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(min(soft, 2**31)) + 1
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _lower(limit: int, value: int) -> None:
    """Set both limits to `value`, or to the hard one where that is lower already."""
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


def _highest_fd() -> int:
    return max(int(name) for name in os.listdir("/proc/self/fd"))


def _mapped_bytes() -> int:
    with open("/proc/self/statm", "rb", buffering=0) as file:
        return int(file.read(128).split()[0]) * linux.PAGE
