"""Makes the folders that mirror those of the inbox, durably. Puts nothing into them."""

from __future__ import annotations

import itertools
import stat
import threading
from pathlib import Path

from sttd.supervisor.durable import sync_folder

# Whoever finds a folder must know that its name is durable, not only just being made so.
_making = threading.Lock()


def make_folders(root: Path, relative: str) -> Path:
    """The folder `relative` beneath `root`, made and durable; `root`, too, if it was moved away.

    Where a file or a link stands in the way of `a`, the folder is called `a-2`, `a-3`. Raises
    OSError, StorageBroken, StorageFull.
    """
    here = root
    with _making:
        if not root.is_dir():
            root.mkdir()
            sync_folder(root.parent)
        for part in filter(None, relative.split("/")):
            here = _make(here, part)
    return here


def _make(here: Path, part: str) -> Path:
    for number in itertools.count(1):
        below = here / (part if number == 1 else f"{part}-{number}")
        try:
            below.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(below.lstat().st_mode):
                continue
        else:
            sync_folder(here)
        return below
    raise AssertionError("numbers do not end")
