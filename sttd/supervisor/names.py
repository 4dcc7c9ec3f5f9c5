"""Which names in the inbox are recordings, and what becomes of a name on its way out. Pure.

Names are paths beneath the inbox, decoded with surrogateescape; their lengths are counted in
bytes, as the file system does. Touches no file.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Container

MAX_NAME = 255  # bytes in one component: NAME_MAX of ext4, xfs, btrfs, tmpfs
MAX_DEPTH = 8  # folders beneath the inbox
SIDECAR_SUFFIX = ".json"
ERROR_SUFFIX = ".error.json"

# Room behind an original's name: its error report, or its sidecar.
_ORIGINAL_ROOM = len(ERROR_SUFFIX)

# What uploaders, editors and synchronisers call a file that is not there yet.
_UNFINISHED = re.compile(
    "|".join(
        fnmatch.translate(pattern)
        for pattern in (
            ".*",  # rsync's .name.XXXXXX, .syncthing.*.tmp, ._*, .DS_Store
            "~*",  # ~$meeting.wav, ~syncthing~*
            "*~",
            "*.part",
            "*.filepart",
            "*.partial",
            "*.tmp",
            "*.crdownload",
            "*.download",
            "*.!sync",
            "*.swp",
            "*.camellock",
            "thumbs.db",
            "desktop.ini",
        )
    ),
    re.IGNORECASE | re.DOTALL,
)
_SERVICE_FOLDERS = frozenset({"@eadir", "__macosx", "#recycle", "lost+found"})


def split(name: str) -> tuple[str, str]:
    """The folder part with its slash ("" where there is none), and the file's own name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash, base


def split_suffix(base: str) -> tuple[str, str]:
    """The stem, and the suffix with its dot; "" where there is none or nothing before it."""
    stem, dot, suffix = base.rpartition(".")
    return (stem, dot + suffix) if stem else (base, "")


def encoded(name: str) -> bytes:
    """The name's bytes on disk."""
    return name.encode("utf-8", "surrogateescape")


def is_unfinished(base: str) -> bool:
    """Whether this file name is one to leave alone: hidden, temporary, half-uploaded."""
    return _UNFINISHED.match(base) is not None


def is_service_folder(base: str) -> bool:
    """Whether this folder name belongs to a tool (hidden, snapshots, recycle bins)."""
    return base.startswith((".", "~")) or base.lower() in _SERVICE_FOLDERS


def extension(base: str) -> str:
    """The last extension in lower case without its dot; "" where there is none."""
    return split_suffix(base)[1][1:].lower()


def is_recording(base: str, extensions: Container[str]) -> bool:
    """Whether the inbox takes a file of this name."""
    return extension(base) in extensions and not is_unfinished(base)


def recording_of(base: str, extensions: Container[str]) -> str | None:
    """The recording whose sidecar this is by its name, or None."""
    if not base.endswith(SIDECAR_SUFFIX):
        return None
    recording = base[: -len(SIDECAR_SUFFIX)]
    return recording if is_recording(recording, extensions) else None


def fit(text: str, size: int) -> str:
    """The text cut at the end, between characters, to at most `size` bytes."""
    if len(encoded(text)) <= size:
        return text
    text = text[:size]  # a character has at least one byte
    while len(encoded(text)) > size:
        text = text[:-1]
    return text


def stem_of(name: str) -> str:
    """The outputs' wished stem: the path without extension; the ledger cuts what is too long."""
    folder, base = split(name)
    return folder + split_suffix(base)[0]


def numbered(name: str, number: int) -> str:
    """The n-th name an original may get: meeting.wav, meeting-2.wav, meeting-3.wav.

    Cut only where the name would leave no room for its `.error.json`.
    """
    folder, base = split(name)
    stem, suffix = split_suffix(base)
    suffix = fit(suffix, MAX_NAME // 2)
    tail = suffix if number == 1 else f"-{number}{suffix}"
    room = MAX_NAME - _ORIGINAL_ROOM - len(encoded(tail))
    return folder + fit(stem, room) + tail


def submitted(name: str) -> str:
    """A plain file name from what a client says its file is called; never empty, never hidden."""
    base = split(name.replace("\0", "").rstrip("/"))[1]
    base = re.sub(r"^\.+", "_", base) or "recording"
    stem, suffix = split_suffix(base)
    suffix = fit(suffix, MAX_NAME // 2)
    return fit(stem, MAX_NAME - len(encoded(suffix))) + suffix
