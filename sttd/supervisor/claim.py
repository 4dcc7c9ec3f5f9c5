"""Moves recordings from the inbox (or from a finished upload) into the spool: steps 5 to 8.

The sidecar first, then the recording, then a look at what was really moved, then every fsync.
May be repeated at any point: whatever an earlier life has done is found and built upon. Knows no
ledger: the caller has committed the rows before and accepts them afterwards. Deletes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sttd.supervisor import durable, names
from sttd.supervisor.beneath import FILE, FOLDER, open_beneath, rename_noreplace
from sttd.supervisor.durable import Open, Syncer
from sttd.supervisor.lease import is_being_written
from sttd.supervisor.records import JobRow, Signature
from sttd.supervisor.spool import AUDIO, OPTIONS, Spool, signature_of
from sttd.wire import options
from sttd.wire.options import OptionsError


class Taken(NamedTuple):
    """The recording is in the spool, whole and durable. `flaw`: its sidecar is not valid."""

    row: JobRow
    size: int  # bytes
    flaw: str | None


class Withdrawn(NamedTuple):
    """The recording is not ours: gone, changed, or not to be had (`refused`: nor later)."""

    row: JobRow
    reason: str
    refused: bool = False


class Held(NamedTuple):
    """The recording is in the spool, but somebody still writes it: take it again later."""

    row: JobRow


Outcome = Taken | Withdrawn | Held


class _Folders:
    """The inbox folders of one batch, each opened once beneath the inbox."""

    def __init__(self, root: int, held: Open) -> None:
        self._root = root
        self._held = held
        self._open: dict[str, int | None] = {"": root}

    def get(self, prefix: str) -> int | None:
        """The folder's descriptor; None when it is gone or no folder any more."""
        if prefix not in self._open:
            try:
                folder = open_beneath(self._root, prefix.rstrip("/"), FOLDER)
            except OSError:
                self._open[prefix] = None
            else:
                self._open[prefix] = self._held.keep(folder)
        return self._open[prefix]

    def all(self) -> list[int]:
        return [folder for folder in self._open.values() if folder is not None]


def take(root: int, rows: Sequence[JobRow], spool: Spool, syncer: Syncer) -> list[Outcome]:
    """Move the recordings of these inbox rows into the spool; `root` is the open inbox.

    Raises StorageBroken or StorageFull; then nothing is certain and the same rows are to be
    given again (after a restart, for the former).
    """
    with durable.storage("cannot move recordings into the spool"), Open() as held:
        folders = _Folders(root, held)
        wet: list[int] = []  # what is still to be synced
        outcomes: list[Outcome] = []
        for row in rows:
            outcome = _move(row, folders, spool) or _receive(row, spool, held, wet)
            if isinstance(outcome, Withdrawn):
                _give_back(row, folders, spool)
            outcomes.append(outcome)
        kept = [one.row.id for one in outcomes if not isinstance(one, Withdrawn)]
        wet += spool.open_folders(kept, held)
        syncer.descriptors(wet + folders.all(), "what was moved into the spool")
    return outcomes


def take_upload(row: JobRow, upload: Path | None, spool: Spool, syncer: Syncer) -> Outcome:
    """The same for a recording that was received into the spool; None: it should be there.

    Nobody but we have written it, and it is whole.
    """
    with durable.storage("cannot move a recording into the spool"), Open() as held:
        if not spool.audio(row.id).exists():
            if upload is None:
                return Withdrawn(row, "its bytes are gone")
            spool.make(row.id)
            upload.rename(spool.audio(row.id))
        wet: list[int] = []
        outcome = _receive(row, spool, held, wet, ours=True)
        wet += [*spool.open_folders([row.id], held), held.file(spool.uploads)]
        syncer.descriptors(wet, "what was moved into the spool")
    return outcome


def _move(row: JobRow, folders: _Folders, spool: Spool) -> Withdrawn | None:
    """Rename the sidecar, then the recording; None when the recording is in the spool."""
    prefix, base = names.split(row.name)
    folder = folders.get(prefix)
    if os.path.lexists(spool.audio_path(row.id)):
        return None
    if folder is None or not _is_there(folder, base, row.signature):
        return Withdrawn(row, "gone or changed before it was taken")
    try:
        home = spool.make(row.id)
        if row.sidecar is not None and not os.path.lexists(f"{home}/{OPTIONS}"):
            sidecar = base + names.SIDECAR_SUFFIX
            if not _is_there(folder, sidecar, row.sidecar):
                return Withdrawn(row, "its sidecar changed before it was taken")
            os.rename(sidecar, f"{home}/{OPTIONS}", src_dir_fd=folder)
        os.rename(base, f"{home}/{AUDIO}", src_dir_fd=folder)
    except FileNotFoundError:
        return Withdrawn(row, "gone before it was taken")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise
        return Withdrawn(row, f"cannot be moved out of the inbox: {error.strerror}", refused=True)
    return None


def _is_there(folder: int, base: str, signature: Signature) -> bool:
    """Whether this is still the file of the row. The device's number may differ after a boot."""
    try:
        found = os.stat(base, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return _same(found, signature)


def _same(found: os.stat_result, known: Signature) -> bool:
    """A rename sets ctime, so that cannot be asked for."""
    now = (found.st_ino, found.st_size, found.st_mtime_ns)
    return now == (known.ino, known.size, known.mtime_ns)


def _receive(
    row: JobRow, spool: Spool, held: Open, wet: list[int], *, ours: bool = False
) -> Outcome:
    """Look at what lies in the spool and write job.json; what is to be synced goes to `wet`."""
    try:
        audio = os.open(spool.audio_path(row.id), FILE | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        return Withdrawn(row, "replaced by a link or a socket while it was taken")
    changed = False
    try:
        status = os.fstat(audio)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return Withdrawn(row, "replaced by something else while it was taken")
        if not ours and is_being_written(audio):
            return Held(row)
        changed = not _same(status, row.signature)
    finally:
        if changed:
            wet.append(held.keep(audio))
        else:
            os.close(audio)
    wet.append(held.keep(spool.write_job(row, signature_of(status))))
    return Taken(row, status.st_size, _flaw(row, spool) if row.sidecar is not None else None)


def _flaw(row: JobRow, spool: Spool) -> str | None:
    """What is wrong with the sidecar in the spool."""
    try:
        with spool.options(row.id).open("rb") as file:
            options.decode(
                file.read(options.MAX_BYTES + 1),
                _shown(row.name) + names.SIDECAR_SUFFIX,
                os.fstat(file.fileno()).st_size,
            )
    except FileNotFoundError:
        return None
    except OptionsError as error:
        return str(error)
    return None


def _shown(name: str) -> str:
    return names.encoded(names.split(name)[1]).decode("utf-8", "backslashreplace")


def _give_back(row: JobRow, folders: _Folders, spool: Spool) -> None:
    """Put what was moved of a withdrawn recording back where it was, under a free name."""
    prefix, base = names.split(row.name)
    folder = folders.get(prefix)
    if folder is None:
        folder = folders.get("")
        assert folder is not None
    _put_back(spool.options(row.id), folder, base + names.SIDECAR_SUFFIX)
    _put_back(spool.audio(row.id), folder, base)
    if not os.path.lexists(spool.audio_path(row.id)):
        spool.remove(row.id)


def _put_back(source: Path, folder: int, base: str) -> None:
    for number in itertools.count(1):
        try:
            with contextlib.suppress(FileNotFoundError):
                rename_noreplace(str(source), names.numbered(base, number), target_folder=folder)
        except FileExistsError:
            continue
        return
