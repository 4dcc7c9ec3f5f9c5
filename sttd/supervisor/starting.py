"""What is needed before there is a daemon: its folders and its lock; else the reason, in one line.

Knows which key of the configuration names which folder, and what an operator can do about it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sttd.config import Settings
from sttd.config.problems import Problem
from sttd.supervisor.lock import HeldError, Lock
from sttd.supervisor.process import make_folders

EX_OK, EX_FAILED, EX_CONFIG, EX_HELD = 0, 1, 2, 3


class StartError(Exception):
    """The daemon cannot start: one line, and the exit code that says whose fault it is."""

    def __init__(self, message: str, code: int = EX_FAILED) -> None:
        super().__init__(message)
        self.code = code


def take_place(settings: Settings) -> Lock:
    """Make the folders and hold the state directory. Raises StartError."""
    try:
        make_folders(settings)
    except OSError as error:
        raise StartError(_folder_trouble(settings, error), EX_CONFIG) from error
    try:
        return Lock(settings.state_dir)
    except HeldError as error:
        raise StartError(str(error), EX_HELD) from error
    except OSError as error:
        path = settings.state_dir / "lock"
        message = f"{path} cannot be opened: {error.strerror or error}"
        remedy = f"a file of user {os.geteuid()} is needed there, or nothing"
        raise StartError(_line(settings, "state_dir", message, remedy), EX_CONFIG) from error


def _folder_trouble(settings: Settings, error: OSError) -> str:
    path = Path(os.fsdecode(error.filename)) if error.filename else settings.state_dir
    key = _key_of(settings, path)
    if isinstance(error, FileExistsError | NotADirectoryError):
        there = next(each for each in (path, *path.parents) if os.path.lexists(each))
        return _line(settings, key, f"{there} is no folder", "move it away")
    if error.errno == errno.EXDEV:
        remedy = "let both be on the disk of state_dir, and archive from there"
        return _line(settings, key, f"{path}: {error.strerror}", remedy)
    message = f"the folder {path} cannot be used: {error.strerror or error}"
    remedy = f"make it one that user {os.geteuid()} may read and write, or choose another"
    return _line(settings, key, message, remedy)


def _key_of(settings: Settings, path: Path) -> str:
    """The key that put the path there; what is in neither folder is the state directory's."""
    named = {"inbox.path": settings.inbox_dir, "outbox.path": settings.outbox_dir}
    for key, folder in named.items():
        if folder == path or path in folder.parents or folder in path.parents:
            own = folder.is_relative_to(settings.state_dir)
            return "state_dir" if own and not path.is_relative_to(folder) else key
    return "state_dir"


def _line(settings: Settings, key: str, message: str, remedy: str) -> str:
    """As check-config would say it."""
    where = settings.origins.get(key, "default")
    return str(Problem(where=where, key=key, message=message, remedy=remedy))
