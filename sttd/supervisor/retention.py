"""Old originals leave done/ and failed/: which are old, and how they are removed, piece by piece.

Age counts from the file's ctime: the move into the folder sets it and nobody can set it back,
while mtime is the uploader's. Works beneath the given folder alone, follows no link, touches only
plain files, and holds few descriptors and names however many files there are. Decides nothing
about rows, and does not know when it is time.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator
from pathlib import Path

from sttd.supervisor.beneath import FOLDER, open_beneath
from sttd.supervisor.names import ERROR_SUFFIX, SIDECAR_SUFFIX

NS = 1_000_000_000
# An empty folder may be one that is just about to be filled; nobody fills it a day later.
EMPTY_FOR_NS = 86_400 * NS
JUMP_S = 3600.0  # a wall clock that gains or loses this much has been set
DISTRUST_S = 86_400.0  # how long nothing is thrown away after that


def before(now_ns: int, keep_s: float) -> int:
    """What is older than this has been kept long enough; 0 (nothing is) for `keep_s` 0."""
    return max(0, now_ns - int(keep_s * NS)) if keep_s > 0 else 0


class Trust:
    """Whether the wall clock can be believed when something is to be thrown away.

    A machine that starts in 1970 and is then told the time would otherwise find everything old.
    Both arguments are seconds; `boottime` counts suspended time too.
    """

    def __init__(self, wall: float, boottime: float) -> None:
        self._apart = wall - boottime
        self._from = boottime

    def holds(self, wall: float, boottime: float) -> bool:
        """Look again; False for a day after the clock has been set by an hour or more."""
        apart = wall - boottime
        if abs(apart - self._apart) >= JUMP_S:
            self._from = boottime + DISTRUST_S
        self._apart = apart
        return boottime >= self._from


def sweep(root: Path, before_ns: int, empty_before_ns: int) -> Generator[int, None, None]:
    """Remove what is older than `before_ns`, and empty folders; yields 1 or 0 for each name.

    A recording takes its sidecar and its report along, itself first: what is left after a crash
    is removed the next time. Raises OSError when `root` cannot be read.
    """
    folder = os.open(root, FOLDER | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield from _folder(folder, before_ns, empty_before_ns)
    finally:
        os.close(folder)


def _folder(here: int, before_ns: int, empty_before_ns: int) -> Generator[int, None, None]:
    with os.scandir(here) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(here, entry.name, before_ns, empty_before_ns)
            elif _is_old(here, entry.name, before_ns) and not _goes_with_another(here, entry.name):
                yield _remove(here, entry.name)
            else:
                yield 0


def _below(
    here: int, name: str, before_ns: int, empty_before_ns: int
) -> Generator[int, None, None]:
    try:
        folder = open_beneath(here, name, FOLDER)
    except OSError:  # gone, replaced by a link, or another file system: not ours to clear
        yield 0
        return
    try:
        yield from _folder(folder, before_ns, empty_before_ns)
        unused = os.fstat(folder).st_mtime_ns < empty_before_ns
    finally:
        os.close(folder)
    if unused:
        with contextlib.suppress(OSError):  # not empty, most of the time
            os.rmdir(name, dir_fd=here)


def _is_old(here: int, name: str, before_ns: int) -> bool:
    status = _status(here, name)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_ctime_ns < before_ns


def _goes_with_another(here: int, name: str) -> bool:
    """Whether it is the sidecar or the report of a recording that still lies beside it."""
    return any(
        name.endswith(suffix) and _status(here, name.removesuffix(suffix)) is not None
        for suffix in (ERROR_SUFFIX, SIDECAR_SUFFIX)
    )


def _remove(here: int, name: str) -> int:
    for each in (name, name + SIDECAR_SUFFIX, name + ERROR_SUFFIX):
        status = _status(here, each)
        if status is not None and stat.S_ISREG(status.st_mode):
            with contextlib.suppress(FileNotFoundError):  # just taken back for a retry
                os.unlink(each, dir_fd=here)
    return 1


def _status(here: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=here, follow_symlinks=False)
    except OSError:  # gone, or a name too long to exist
        return None
