"""A unix socket that listens with the right owner and mode from its first moment on.

libzmq would unlink whatever lies at the path and bind with the umask's mode; here the socket is
made under another name, given its group and mode, and renamed into place. Nothing but a socket
on which nobody answers is ever replaced. Knows nothing of ZeroMQ and of what is said.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import stat
from pathlib import Path

from sttd.supervisor.beneath import rename_noreplace

BACKLOG = 128
FOLDER_MODE = 0o750
SOCKET_MODE = 0o660
MAX_PATH = 107  # bytes; sun_path of sockaddr_un is 108 with its final zero (unix(7))


class ControlError(Exception):
    """The endpoint cannot be had; the message names it and the remedy."""


class UnixListener:
    """One listening socket; `fd` is handed to whoever accepts and then belongs to them."""

    def __init__(self, path: str, *, group: str = "") -> None:
        """Listen at `path` for members of `group` ("": the process's own).

        `warning` is a line for the operator when the group could not be given; access is then
        narrower than asked for, never wider. Raises ControlError.
        """
        self.path = Path(path)
        self.warning = ""
        _check_path(path)
        gid = self._gid(group)
        try:
            self._make_folder(gid)
            self._refuse_to_steal()
            self.fd = self._listen(gid)
        except OSError as error:
            raise ControlError(f"cannot listen at {path}: {error.strerror or error}") from error
        made = self.path.stat()
        self._inode = (made.st_dev, made.st_ino)
        self._hidden: Path | None = None

    def unlink(self) -> None:
        """Remove the socket from its folder, unless another took its place meanwhile."""
        self.reopen()
        with contextlib.suppress(OSError):
            there = self.path.stat()
            if (there.st_dev, there.st_ino) == self._inode:
                self.path.unlink()

    def shut(self) -> None:
        """Take the socket's name away and all rights to it: nobody can connect any more."""
        hidden = self.path.with_name(f".{os.urandom(8).hex()}.sock")
        with contextlib.suppress(OSError):
            there = self.path.stat()
            if (there.st_dev, there.st_ino) == self._inode:
                self.path.chmod(0)
                self.path.rename(hidden)
                self._hidden = hidden

    def reopen(self) -> None:
        """Give the name back after `shut`, unless another took it meanwhile."""
        if self._hidden is not None:
            with contextlib.suppress(OSError):
                self._hidden.chmod(SOCKET_MODE)
                rename_noreplace(str(self._hidden), str(self.path))
            self._hidden = None

    def _gid(self, group: str) -> int | None:
        if not group:
            return None
        try:
            return grp.getgrnam(group).gr_gid
        except KeyError:
            self.warning = f"there is no group {group!r}: only {_own_group()} may use {self.path}"
            return None

    def _make_folder(self, gid: int | None) -> None:
        folder = self.path.parent
        if folder.is_dir():
            return
        folder.mkdir(parents=True)
        self._give(folder, gid)
        folder.chmod(FOLDER_MODE)

    def _give(self, path: Path, gid: int | None) -> None:
        if gid is None or path.stat().st_gid == gid:
            return
        try:
            os.chown(path, -1, gid)
        except PermissionError:
            self.warning = (
                f"not a member of group {grp.getgrgid(gid).gr_name!r}: "
                f"only {_own_group()} may use {self.path}"
            )

    def _refuse_to_steal(self) -> None:
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise ControlError(f"{self.path} exists and is no socket; move it away")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                return  # left behind by one that died; renamed over
            except TimeoutError:
                pass  # its backlog is full: alive
        raise ControlError(f"another process answers at {self.path}; stop it or use another path")

    def _listen(self, gid: int | None) -> int:
        folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        made = self.path.parent / f".{os.urandom(8).hex()}.sock"
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                # by way of /proc the name's length does not matter
                listener.bind(f"/proc/self/fd/{folder}/{made.name}")
                self._give(made, gid)
                made.chmod(SOCKET_MODE)
                listener.listen(BACKLOG)
                listener.setblocking(False)
                made.rename(self.path)
                return listener.detach()
        finally:
            os.close(folder)
            made.unlink(missing_ok=True)


def _check_path(path: str) -> None:
    if path.startswith("@"):
        raise ControlError(f"ipc://{path}: an abstract socket has no mode; give a path")
    if not path.startswith("/"):
        raise ControlError(f"ipc://{path}: give an absolute path")
    length = len(os.fsencode(path))
    if length > MAX_PATH:
        raise ControlError(
            f"ipc://{path}: {length} bytes, but the kernel takes at most {MAX_PATH} in the path "
            "of a socket; choose a shorter one"
        )


def _own_group() -> str:
    gid = os.getegid()
    try:
        return f"group {grp.getgrgid(gid).gr_name!r}"
    except KeyError:
        return f"group {gid}"
