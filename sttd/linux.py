"""The few Linux calls that Python has no name for, by ctypes on libc. No policy.

Numbers are from <linux/prctl.h>; they are ABI and do not change.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PAGE = os.sysconf("SC_PAGE_SIZE")


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl({option})")


def die_with_parent() -> None:
    """SIGKILL for this process when the thread of its parent that it belongs to ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """No exec gives this process or its children more rights than it has. Cannot be undone."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def not_dumpable() -> None:
    """No core dump, no ptrace, and only root looks into /proc/<pid>/{mem,maps,fd,environ}."""
    _prctl(PR_SET_DUMPABLE, 0)


def set_name(name: str) -> None:
    """The name in ps and top; the kernel keeps 15 bytes."""
    _libc.prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def malloc_trim() -> bool:
    """Give free heap back to the kernel; False where no allocator has such a call (musl's).

    Where jemalloc was preloaded it is jemalloc's heap that is trimmed, all arenas of it:
    4096 is MALLCTL_ARENAS_ALL of jemalloc.h.
    """
    mallctl = getattr(_libc, "mallctl", None)
    if mallctl is not None:
        return bool(mallctl(b"arena.4096.purge", None, None, None, ctypes.c_size_t(0)) == 0)
    try:
        return bool(_libc.malloc_trim(0))
    except AttributeError:
        return False


def one_arena() -> None:
    """Let all threads allocate from one heap (M_ARENA_MAX is -8 in malloc.h of glibc).

    Before the first thread. For a process whose threads mostly wait: a heap each costs memory that
    is never given back. Nothing happens where the allocator has no such call.
    """
    with contextlib.suppress(AttributeError):
        _libc.mallopt(-8, 1)


def malloc_info() -> bytes:
    """The C library on all its arenas, an XML document (malloc_info(3)); empty if it has none."""
    _libc.open_memstream.restype = ctypes.c_void_p
    text, size = ctypes.c_void_p(), ctypes.c_size_t()
    stream = _libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
    if not stream:
        return b""
    try:
        _libc.malloc_info(0, ctypes.c_void_p(stream))
    except AttributeError:
        pass
    finally:
        _libc.fclose(ctypes.c_void_p(stream))
    found = ctypes.string_at(text, size.value) if text.value else b""
    _libc.free(text)
    return found


def thread_names() -> list[str]:
    """The names of this process's threads, the main one first.

    As Python knows them, for it tells the kernel from 3.14 on; else as the kernel does.
    """
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    names = []
    for task in sorted(os.listdir("/proc/self/task"), key=int):
        with open(f"/proc/self/task/{task}/comm", errors="backslashreplace") as file:
            names.append(known.get(int(task)) or file.read().strip())
    return names


def oom_kills() -> int:
    """How often the kernel has killed for lack of memory since the boot, anywhere; proc(5)."""
    try:
        with open("/proc/vmstat", "rb", buffering=0) as file:
            _, _, rest = file.read(1 << 16).partition(b"\noom_kill ")
    except OSError:  # not to be seen from where we are
        return 0
    return int(rest.partition(b"\n")[0] or 0)
