"""Opening and renaming without being led astray: openat2 and renameat2 by ctypes.

`open_beneath` follows no link and leaves neither the folder nor its file system;
`rename_noreplace` never overwrites. Both fall back to older calls where the kernel or a seccomp
filter refuses the new ones. Knows nothing of inboxes or jobs and decides nothing.

Sources: openat2(2), renameat2(2), linux/openat2.h, linux/fs.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

_SYS_OPENAT2 = ctypes.c_long(437)  # the same number on every architecture
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08  # NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_RENAME_NOREPLACE = 1
_AGAIN = 16  # tries: openat2 may say EAGAIN while something is being renamed

FOLDER = os.O_RDONLY | os.O_DIRECTORY
FILE = os.O_RDONLY | os.O_NONBLOCK  # a FIFO must not block us; fstat sorts it out afterwards
PLACE = os.O_PATH  # for fstat alone: needs no right to read, opens no device

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW_SIZE = ctypes.sizeof(_OpenHow)


def open_beneath(folder: int, name: str, flags: int) -> int:
    """A descriptor of `name` (a relative path) beneath the open `folder`; close it yourself.

    Raises OSError: ELOOP for a link anywhere in the path, EXDEV for a path that would leave the
    folder or its file system, FileNotFoundError, PermissionError, and what else open(2) says.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    path = os.fsencode(name)
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a path with a null byte", name)
    how = _OpenHow(flags, 0, _RESOLVE)
    for _ in range(_AGAIN):
        descriptor = int(
            _libc.syscall(_SYS_OPENAT2, folder, path, ctypes.byref(how), ctypes.c_size_t(_HOW_SIZE))
        )
        if descriptor >= 0:
            return _no_link(descriptor, name, flags)
        code = ctypes.get_errno()
        if code in (errno.ENOSYS, errno.EPERM):
            return _no_link(_step_by_step(folder, name, flags), name, flags)
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), name)


def _no_link(descriptor: int, name: str, flags: int) -> int:
    """The descriptor, unless O_PATH has opened a link itself."""
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return descriptor


def _step_by_step(folder: int, name: str, flags: int) -> int:
    """The same without openat2: one component after the other, none of them a link."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise OSError(errno.EXDEV, "the path leaves the folder", name)
    device = os.fstat(folder).st_dev
    here = os.dup(folder)
    try:
        for part in parts[:-1]:
            below = os.open(part, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
        descriptor = os.open(parts[-1], flags, dir_fd=here)
    except NotADirectoryError as error:  # what O_DIRECTORY|O_NOFOLLOW says of a link
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from error
    finally:
        os.close(here)
    if os.fstat(descriptor).st_dev != device:
        os.close(descriptor)
        raise OSError(errno.EXDEV, "the path leaves the file system", name)
    return descriptor


def rename_noreplace(
    source: str, target: str, *, source_folder: int | None = None, target_folder: int | None = None
) -> None:
    """Rename `source` to `target` unless that exists; each beneath its folder, where one is given.

    Raises FileExistsError, FileNotFoundError, and what else rename(2) says.
    """
    code = _renameat2(_at(source_folder), source, _at(target_folder), target)
    if code == 0:
        return
    if code in (errno.ENOSYS, errno.EINVAL) or (code == errno.EPERM and _is_filtered()):
        _link_unlink(source, target, source_folder, target_folder)
        return
    raise OSError(code, os.strerror(code), source, None, target)


def _at(folder: int | None) -> int:
    return -100 if folder is None else folder  # AT_FDCWD


def _renameat2(source_folder: int, source: str, target_folder: int, target: str) -> int:
    """Zero or an errno; ENOSYS where the C library has no such function."""
    call = getattr(_libc, "renameat2", None)  # glibc 2.28, musl 1.2.6
    if call is None:
        return errno.ENOSYS
    done = call(
        source_folder, os.fsencode(source), target_folder, os.fsencode(target), _RENAME_NOREPLACE
    )
    return 0 if done == 0 else ctypes.get_errno()


def _is_filtered() -> bool:
    """Whether EPERM is a seccomp filter's answer: the kernel's own, to no name, would be ENOENT."""
    return _renameat2(_at(None), "", _at(None), "") == errno.EPERM


def _link_unlink(
    source: str, target: str, source_folder: int | None, target_folder: int | None
) -> None:
    """The same in two steps; the second is made up for when the first was done earlier."""
    made = True
    try:
        os.link(
            source,
            target,
            src_dir_fd=source_folder,
            dst_dir_fd=target_folder,
            follow_symlinks=False,
        )
    except FileExistsError:
        before = os.stat(source, dir_fd=source_folder, follow_symlinks=False)
        there = os.stat(target, dir_fd=target_folder, follow_symlinks=False)
        if (before.st_dev, before.st_ino) != (there.st_dev, there.st_ino):
            raise
        made = False
    try:
        os.unlink(source, dir_fd=source_folder)
    except OSError:
        if made:  # a file with two names would be refused by everybody
            os.unlink(target, dir_fd=target_folder)
        raise
