"""Two walls of the kernel's that need no privilege: Landlock for files, seccomp for system calls.

With Landlock no file can be opened any more, for reading neither, and no TCP connection be made;
with seccomp no socket of any kind, no program, process, thread or executable page, and no file for
writing. What is open stays usable. Either holds without the other, as far as the kernel has it.
Pure mechanism: whoever calls decides, and nothing can be taken back.

Sources: landlock(7), linux/landlock.h, seccomp(2), linux/{seccomp,filter,audit}.h, and the kernel's
syscall tables for x86_64 and for aarch64 (asm-generic/unistd.h). Numbers are ABI.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)

# -- Landlock ---------------------------------------------------------------------------------
_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same numbers on every architecture
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
# How many access rights on files each version of the ABI knows, all lower ones included.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET_RIGHTS = 0b11  # TCP bind and connect, from version 4 on
_SCOPES = 0b11  # abstract unix sockets and signals, from version 6 on


def landlock_version() -> int:
    """Of the kernel's ABI; 0 where there is none, or it is switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))


def landlock() -> bool:
    """No new file, no TCP; False where the kernel has no Landlock. no_new_privs must be set."""
    version = landlock_version()
    if version < 1:
        return False
    files = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    net = _NET_RIGHTS if version >= 4 else 0
    scopes = _SCOPES if version >= 6 else 0
    known = 8 if version < 4 else 16 if version < 6 else 24  # bytes of struct landlock_ruleset_attr
    attributes = struct.pack("=QQQ", files, net, scopes)[:known]
    ruleset = int(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    if ruleset < 0:
        return False
    try:
        return bool(_libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


# -- seccomp ----------------------------------------------------------------------------------
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_DENY = 0x00050000 | errno.EPERM
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data; arguments from 16 on, 8 bytes each
_X32 = 0x40000000  # another table of calls on x86_64, which the numbers below do not cover
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PROT_EXEC = 4
_ANY = 0xFFFFFFFF

_EVERYWHERE = range(
    424, 441
)  # pidfd_send_signal, io_uring_*, the mount calls, clone3, openat2, ...
# mount_setattr, quotactl_fd, memfd_secret, fchmodat2, setxattrat, removexattrat, open_tree_attr,
# file_setattr
_LATER = (442, 443, 447, 452, 463, 466, 467, 469)
# socket connect accept bind listen socketpair, clone fork vfork execve execveat, kill and its kin,
# shm*, every call that changes names, modes, owners, attributes or times, by path or by descriptor,
# ptrace and its kin, whatever sets another process's priority, processors or memory, mounts, quota,
# modules, keys, clocks, inotify fanotify, perf bpf userfaultfd, unshare setns, memfd_create.
# tests/unit/test_walls.py has the names.
_DENIED: dict[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        (
            29, 30, 31, 41, 42, 43, 49, 50, 53, 56, 57, 58, 59, 62, 76, 82, 83, 84, 85,
            86, 87, 88, 90, 91, 92, 93, 94, 101, 103, 129, 132, 133, 135, 141, 142, 144,
            155, 159, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 175, 176, 179,
            188, 189, 190, 197, 198, 199, 200, 203, 227, 235, 246, 248, 249, 250, 251,
            253, 256, 258, 259, 260, 261, 263, 264, 265, 266, 268, 272, 279, 280, 288,
            294, 297, 298, 300, 303, 304, 305, 308, 310, 311, 312, 313, 314, 316, 319,
            320, 321, 322, 323,
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            5, 6, 7, 14, 15, 16, 26, 30, 33, 34, 35, 36, 37, 38, 39, 40, 41, 45, 51, 52,
            53, 54, 55, 60, 88, 89, 92, 97, 104, 105, 106, 112, 116, 117, 118, 119, 122,
            129, 130, 138, 140, 142, 161, 162, 170, 171, 194, 195, 196, 198, 199, 200,
            201, 202, 203, 217, 218, 219, 220, 221, 224, 225, 238, 239, 240, 241, 242,
            262, 264, 265, 266, 268, 270, 271, 272, 273, 274, 276, 279, 280, 281, 282,
            294,
        ),
    ),
}  # fmt: skip
# Calls that are denied for some arguments: number, which argument, which bits of it.
_PARTLY: dict[str, tuple[tuple[int, int, int], ...]] = {
    "x86_64": (
        (2, 1, _WRITING),  # open
        (257, 2, _WRITING),  # openat
        (9, 2, _PROT_EXEC),  # mmap
        (10, 2, _PROT_EXEC),  # mprotect
        (329, 2, _PROT_EXEC),  # pkey_mprotect
        (302, 0, _ANY),  # prlimit64 of any process but oneself (0)
    ),
    "aarch64": (
        (56, 2, _WRITING),
        (222, 2, _PROT_EXEC),
        (226, 2, _PROT_EXEC),
        (288, 2, _PROT_EXEC),
        (261, 0, _ANY),
    ),
}
# Signals to oneself alone: abort and raise(3) need it.
_TGKILL = {"x86_64": 234, "aarch64": 131}


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def seccomp() -> bool:
    """Fewer system calls; False on machines and kernels that have no filter for it.

    no_new_privs must be set.
    """
    machine = platform.machine()
    if machine not in _DENIED:
        return False
    code = b"".join(_instructions(machine, os.getpid()))
    program = _Program(len(code) // 8, code)
    return bool(_libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _instructions(machine: str, pid: int) -> Iterator[bytes]:
    """A classic BPF program; a jump says how many instructions are passed over, if and if not."""
    architecture, denied = _DENIED[machine]
    yield _instruction(_LOAD, 0, 0, _ARCHITECTURE)
    yield _instruction(_EQUAL, 1, 0, architecture)
    yield _instruction(_RETURN, 0, 0, _KILL)
    yield _instruction(_LOAD, 0, 0, _NUMBER)
    if machine == "x86_64":
        yield from _deny_if(_AT_LEAST, _X32)
    for number in (*denied, *_EVERYWHERE, *_LATER):
        yield from _deny_if(_EQUAL, number)
    yield _instruction(_EQUAL, 0, 3, _TGKILL[machine])
    yield _instruction(_LOAD, 0, 0, 16)
    yield _instruction(_EQUAL, 1, 0, pid)
    yield _instruction(_RETURN, 0, 0, _DENY)
    yield _instruction(_LOAD, 0, 0, _NUMBER)
    for number, argument, bits in _PARTLY[machine]:
        yield _instruction(_EQUAL, 0, 4, number)
        yield _instruction(_LOAD, 0, 0, 16 + 8 * argument)  # the lower half: little endian
        yield from _deny_if(_ANY_BIT, bits)
        yield _instruction(_RETURN, 0, 0, _ALLOW)
    yield _instruction(_RETURN, 0, 0, _ALLOW)


def _deny_if(test: int, value: int) -> Iterator[bytes]:
    yield _instruction(test, 0, 1, value)
    yield _instruction(_RETURN, 0, 0, _DENY)


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    """Struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
