"""Recordings submitted by reference: opened where the client may read them, copied into the spool.

Only beneath the configured folders, without following links, only plain files that the client's
own user may read and nobody writes. Deletes and changes nothing of the client's. A disk of the
client's that fails is no trouble of ours: such a file is refused.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from sttd.supervisor import durable
from sttd.supervisor.beneath import FILE, FOLDER, PLACE, open_beneath
from sttd.supervisor.lease import is_being_written
from sttd.supervisor.spool import signature_of

_CHUNK = 8 << 20  # bytes copied at a time
_TO_SEARCH, _TO_READ = 1, 4  # bits of a mode
# With EIO it does not tell which of the two disks failed; reading and writing by hand does.
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO})


class RefusedError(Exception):
    """The file cannot be taken by reference; the message says why. The bytes may still be sent."""


def copy_in(
    path: Path, target: Path, *, allowed: Sequence[Path], uid: int | None, max_bytes: int
) -> None:
    """Copy the file at `path` to the new file `target`, which is left unsynced.

    `uid` is the client's, None where it is unknown: then the file must be readable by all.
    Raises RefusedError, StorageFull, StorageBroken; then there is no `target`.
    """
    source = _open(path, allowed, uid)
    try:
        before = os.fstat(source)
        if not stat.S_ISREG(before.st_mode):
            raise RefusedError(f"{path} is no plain file")
        if before.st_size > max_bytes:
            raise RefusedError(
                f"{path}: {before.st_size} bytes; limits.max_file_size admits {max_bytes}"
            )
        if is_being_written(source):
            raise RefusedError(f"{path} is still being written")
        try:
            with durable.storage(f"cannot copy {path} into the spool"):
                _copy(source, target)
            _check_unchanged(path, source, before)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    finally:
        os.close(source)


def _open(path: Path, allowed: Sequence[Path], uid: int | None) -> int:
    """The open file, if it lies beneath an allowed folder and the client may read it."""
    for root in allowed:
        if path.is_relative_to(root) and path != root and ".." not in path.parts:
            break
    else:
        raise RefusedError(f"{path} is not beneath a folder of control.allow_paths")
    parts = path.relative_to(root)
    try:
        folder = os.open(root, FOLDER | os.O_CLOEXEC)
        try:
            file = open_beneath(folder, str(parts), FILE)
            try:
                _check_rights(folder, parts, file, uid)
            except BaseException:
                os.close(file)
                raise
            return file
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV):
            raise RefusedError(f"{path}: links are not followed") from error
        raise RefusedError(f"{path}: {error.strerror}") from error


def _check_unchanged(path: Path, source: int, before: os.stat_result) -> None:
    if signature_of(os.fstat(source)) != signature_of(before):
        raise RefusedError(f"{path} changed while it was copied")


def _check_rights(root: int, parts: PurePath, file: int, uid: int | None) -> None:
    """Whether the client's own user may get at the file, by its mode and those of its folders.

    An access control list may say otherwise than the mode and is not judged: the client sends
    the bytes, for which the kernel has judged. Raises RefusedError, OSError.
    """
    if uid == 0:
        return
    groups = _groups(uid)
    for descriptor in _folders(root, parts):
        _check_right(descriptor, _TO_SEARCH, parts.name, uid, groups)
    _check_right(file, _TO_READ, parts.name, uid, groups)


def _check_right(
    descriptor: int, right: int, name: str, uid: int | None, groups: frozenset[int]
) -> None:
    place = os.fstat(descriptor)
    shift = 0
    if uid is not None and place.st_uid == uid:
        shift = 6
    elif _has_list(descriptor):
        raise RefusedError(f"{name}: an access control list says who may read it")
    elif place.st_gid in groups:
        shift = 3
    if not (place.st_mode >> shift) & right:
        raise RefusedError(f"{name} is not readable for the user who asks")


def _has_list(descriptor: int) -> bool:
    """Whether there is an access control list, of which the mode shows a part only."""
    try:  # by way of /proc, for a descriptor of O_PATH has no attributes
        return bool(os.getxattr(f"/proc/self/fd/{descriptor}", "system.posix_acl_access"))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise


def _folders(root: int, parts: PurePath) -> Iterator[int]:
    """Descriptors of the allowed folder and of each one on the way from it to the file."""
    yield root
    for depth in range(1, len(parts.parts)):
        place = open_beneath(root, str(PurePath(*parts.parts[:depth])), PLACE)
        try:
            yield place
        finally:
            os.close(place)


def _groups(uid: int | None) -> frozenset[int]:
    if uid is None:
        return frozenset()
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))


def _copy(source: int, target: Path) -> None:
    """By the kernel, which shares the blocks where the file system can; else by hand."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    sink = os.open(target, flags, 0o600)
    try:
        while True:
            try:
                copied = os.copy_file_range(source, sink, _CHUNK)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                copied = _write_all(sink, _read(source))
            if copied == 0:
                return
    finally:
        os.close(sink)


def _read(source: int) -> bytes:
    try:
        return os.read(source, _CHUNK)
    except OSError as error:
        raise RefusedError(f"the recording cannot be read: {error.strerror}") from error


def _write_all(sink: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]
    return len(data)
