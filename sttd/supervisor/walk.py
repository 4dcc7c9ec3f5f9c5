"""Walks the inbox: every name that could matter, with what lstat says of it; piece by piece.

Follows no link, leaves neither the inbox nor its file system, goes at most eight folders deep and
holds at most that many descriptors, however many files there are. Judges nothing but folders.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sttd.supervisor import names
from sttd.supervisor.beneath import FOLDER, open_beneath


class Met(NamedTuple):
    """A name that could matter, and its lstat."""

    name: str
    status: os.stat_result


class Shut(NamedTuple):
    """A folder whose recordings cannot be taken, and why."""

    name: str
    reason: str


def walk(
    root: int, wanted: Callable[[str], bool], *, recursive: bool
) -> Iterator[Met | Shut | None]:
    """Everything beneath the open folder `root`; None for each entry that is passed over.

    `wanted` is asked of a file's own name. Close the iterator to let go of its descriptors.
    """
    yield from _folder(root, "", 0, wanted, recursive)


def _folder(
    here: int, prefix: str, depth: int, wanted: Callable[[str], bool], recursive: bool
) -> Iterator[Met | Shut | None]:
    with os.scandir(here) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if recursive and not names.is_service_folder(entry.name):
                    yield from _below(here, entry.name, prefix, depth, wanted)
                continue
            if not wanted(entry.name) and not _may_be_linked_folder(entry):
                yield None
                continue
            try:
                yield Met(prefix + entry.name, entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue


def _below(
    here: int, base: str, prefix: str, depth: int, wanted: Callable[[str], bool]
) -> Iterator[Met | Shut | None]:
    name = prefix + base
    if depth + 1 > names.MAX_DEPTH:
        yield Shut(name, f"deeper than {names.MAX_DEPTH} folders; move it up")
        return
    try:
        folder = open_beneath(here, base, FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield Shut(name, f"cannot be opened: {error.strerror}")
        return
    try:
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
            yield Shut(name, "recordings cannot be moved out of it; give sttd the right to write")
            return
        yield from _folder(folder, name + "/", depth + 1, wanted, recursive=True)
    finally:
        os.close(folder)


def _may_be_linked_folder(entry: os.DirEntry[str]) -> bool:
    """A link without an extension, likely to a folder: said to be refused, never looked behind."""
    return "." not in entry.name and not names.is_unfinished(entry.name) and entry.is_symlink()
