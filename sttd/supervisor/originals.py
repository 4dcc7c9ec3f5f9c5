"""Where originals go when their job is over: done/ or failed/, and back for a retry.

Every move may be repeated after a crash at any point and finds what was done before. Nothing is
ever overwritten: a name in use gives the next number. Knows nothing of transcripts, the ledger or
the inbox; does not decide whether originals are kept.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from sttd.supervisor import durable, names
from sttd.supervisor.beneath import rename_noreplace
from sttd.supervisor.folders import make_folders
from sttd.supervisor.records import Signature
from sttd.supervisor.spool import AUDIO, OPTIONS, REPORT, Spool

_MAX_HINTS = 4096


class _Report(msgspec.Struct, frozen=True):
    """Whose failure an error report tells of."""

    job_id: str | None = None


_report = msgspec.json.Decoder(_Report)


class Originals:
    """The folders done/ and failed/, made where they are missing; on the spool's file system."""

    def __init__(self, done: Path, failed: Path, spool: Spool) -> None:
        self._done = done
        self._failed = failed
        self._spool = spool
        # the next number for a name that has been put there before, so that no probing is needed
        self._hints: dict[Path, int] = {}
        for folder in (done, failed):
            folder.mkdir(parents=True, exist_ok=True)
            durable.sync_folder(folder.parent)

    def delete(self, jobs: Sequence[tuple[Path, str]]) -> list[str | Exception | None]:
        """Delete the originals, for good, with everything else in the jobs' folders."""
        return [self._delete(folder) for folder, _ in jobs]

    def keep(self, jobs: Sequence[tuple[Path, str]]) -> list[str | Exception | None]:
        """Move originals to done/, sidecars beside them; empty the jobs' folders, (folder, name).

        "done/..." for each; None when there is no original and no trace of where it went; or its
        error. One fsync of a folder is for all, and each stands for itself.
        """
        synced: dict[Path, Exception | None] = {}
        moved: list[tuple[Path, str | None] | Exception] = [self._move(*job) for job in jobs]
        done: list[str | Exception | None] = []
        for (folder, name), one in zip(jobs, moved, strict=True):
            if isinstance(one, Exception):
                done.append(one)
                continue
            target, found = one
            if target not in synced:
                synced[target] = _trouble_syncing(target)
            if (error := synced[target]) is None:
                error = self._empty(folder, name)
            done.append(error or _told("done", self._done, target, found))
        return done

    def _delete(self, folder: Path) -> Exception | None:
        try:
            with durable.storage(f"cannot delete {folder}"):
                if folder.is_dir():
                    for name in (AUDIO, OPTIONS):
                        (folder / name).unlink(missing_ok=True)
                    durable.sync_folder(folder)
                self._spool.remove(folder.name)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            return error
        return None

    def _move(self, folder: Path, name: str) -> tuple[Path, str | None] | Exception:
        """Where the original is now, its sidecar beside it; not yet durable."""
        prefix, base = names.split(name)
        try:
            with durable.storage(f"cannot move {name!r} to {self._done}"):
                target = make_folders(self._done, prefix)
                found = self._place(folder / AUDIO, target, base) or self._find_kept(
                    folder, target, base
                )
                if found is not None:
                    _move_beside(folder / OPTIONS, target, found)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            return error
        return target, found

    def _empty(self, folder: Path, name: str) -> Exception | None:
        try:
            with durable.storage(f"cannot move {name!r} to {self._done}"):
                self._spool.remove(folder.name)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            return error
        return None

    def fail(self, folder: Path, name: str, report: bytes) -> str | None:
        """Move the original to failed/: the report first, then the original, its sidecar beside it.

        Both get the same number. Returns "failed/..."; None as `keep`.
        """
        prefix, base = names.split(name)
        with durable.storage(f"cannot move {name!r} to {self._failed}"):
            target = make_folders(self._failed, prefix)
            if (folder / AUDIO).exists():
                durable.write(folder / REPORT, report)
                found: str | None = self._place_failed(folder, target, base)
            else:
                found = self._find_failed(folder, target, base)
            if found is not None:
                _move_beside(folder / OPTIONS, target, found)
            self._finish(folder, target)
        return _told("failed", self._failed, target, found)

    def set_aside(self, source_folder: int, base: str, name: str, report: bytes) -> str:
        """Move a file that belongs to no job from the open folder to failed/, its report first.

        Raises OSError when it cannot be moved; then there is no report.
        """
        prefix, kept = names.split(name)
        with durable.storage(f"cannot move {name!r} to {self._failed}"):
            target = make_folders(self._failed, prefix)
            draft = self._spool.new_upload()
            try:
                durable.write(draft, report)
                for number in self._numbers(target / kept):
                    found = names.numbered(kept, number)
                    if _moved_after(draft, base, source_folder, target / found):
                        break
            finally:
                draft.unlink(missing_ok=True)
            durable.sync_folder(target)
            durable.sync(source_folder, "the inbox's names")
        return _told("failed", self._failed, target, found) or ""

    def reclaim(self, original: str, job: str, signature: Signature) -> bool:
        """Move failed/... back into the job's folder and remove its report; False: it is gone.

        Another job's recording may lie there by now: the report says whose it is, and where there
        is none the recording must be the one of that `signature`. job.json is left to be written
        once the job is queued again: a folder without it tells the recovery that the retry was
        not committed.
        """
        place = self._failed / original.removeprefix("failed/")
        with durable.storage(f"cannot take {original} back"):
            folder = Path(self._spool.make(job))
            report = place.with_name(place.name + names.ERROR_SUFFIX)
            ours = _is_original_of(place, report, job, signature)
            if not (folder / AUDIO).exists() and not (ours and _renamed(place, folder / AUDIO)):
                self._spool.remove(job)
                return False
            sidecar = place.with_name(place.name + names.SIDECAR_SUFFIX)
            alone = os.path.lexists(sidecar.with_name(sidecar.name + names.ERROR_SUFFIX))
            if ours and not alone:
                _renamed(sidecar, folder / OPTIONS)
            for made in (folder, folder.parent, self._spool.root):
                durable.sync_folder(made)
            if _is_report_of(report, job):
                report.unlink()
            if place.parent.is_dir():
                durable.sync_folder(place.parent)
        self._hints.clear()  # numbers may be free again
        return True

    # -- one by one ---------------------------------------------------------------------------
    def _place(self, source: Path, target: Path, base: str) -> str | None:
        """Move `source` to the first free number of `base`; None when it is not there."""
        if not os.path.lexists(source):
            return None
        for number in self._numbers(target / base):
            found = names.numbered(base, number)
            if _renamed(source, target / found):
                self._note(target / base, number)
                return found
        raise AssertionError("numbers do not end")

    def _place_failed(self, folder: Path, target: Path, base: str) -> str:
        """Move the report, then the original, to the first number that is free for both."""
        known = target / base in self._hints
        for number in self._numbers(target / base):
            found = names.numbered(base, number)
            told = target / (found + names.ERROR_SUFFIX)
            if not _renamed(folder / REPORT, told) and (
                known or not _is_report_of(told, folder.name)
            ):
                (folder / REPORT).lstat()  # whoever took it would let us search for ever
                continue
            durable.sync_folder(target)
            if _renamed(folder / AUDIO, target / found):
                self._note(target / base, number)
                return found
            os.rename(told, folder / REPORT)
            (folder / AUDIO).lstat()
        raise AssertionError("numbers do not end")

    def _find_kept(self, folder: Path, target: Path, base: str) -> str | None:
        """Where an earlier life has put it, by its inode."""
        job = self._spool.read_job(folder.name)
        if job is None:
            return None
        for number in itertools.count(1):
            found = names.numbered(base, number)
            try:
                inode = (target / found).lstat().st_ino
            except FileNotFoundError:
                return None
            if inode == job.signature.ino:
                return found
        return None

    def _find_failed(self, folder: Path, target: Path, base: str) -> str | None:
        """Where an earlier life has put it, by its report."""
        for number in itertools.count(1):
            found = names.numbered(base, number)
            told = target / (found + names.ERROR_SUFFIX)
            if _is_report_of(told, folder.name) and os.path.lexists(target / found):
                return found
            if not os.path.lexists(target / found):
                return None
        return None

    def _finish(self, folder: Path, target: Path) -> None:
        durable.sync_folder(target)
        self._spool.remove(folder.name)

    def _numbers(self, wish: Path) -> Iterator[int]:
        return itertools.count(self._hints.pop(wish, 1))

    def _note(self, wish: Path, number: int) -> None:
        if len(self._hints) >= _MAX_HINTS:
            self._hints.clear()
        self._hints[wish] = number + 1


def _trouble_syncing(folder: Path) -> Exception | None:
    try:
        with durable.storage(f"cannot keep originals in {folder}"):
            durable.sync_folder(folder)
    except Exception as error:  # noqa: BLE001 - handed to whoever asked
        return error
    return None


def _renamed(source: Path, target: Path) -> bool:
    """Whether `source` was there and is `target` now; False when the name is in use."""
    for _ in range(2):
        try:
            rename_noreplace(str(source), str(target))
        except FileExistsError:
            return False
        except FileNotFoundError:
            if not os.path.lexists(source) or target.parent.exists():
                return False
            target.parent.mkdir()  # the upkeep has just removed it because it was empty
            durable.sync_folder(target.parent.parent)
        else:
            return True
    return False


def _moved_after(report: Path, base: str, source_folder: int, target: Path) -> bool:
    """Move the report beside `target`, then the file there; False when a name is in use."""
    told = target.with_name(target.name + names.ERROR_SUFFIX)
    if os.path.lexists(target) or not _renamed(report, told):
        return False
    durable.sync_folder(target.parent)
    try:
        rename_noreplace(base, str(target), source_folder=source_folder)
    except OSError as error:
        os.rename(told, report)  # it would tell of a file that is not there
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def _move_beside(sidecar: Path, target: Path, found: str) -> None:
    """Put a sidecar beside its original, under a number of its own if it must be."""
    for number in itertools.count(1):
        if not os.path.lexists(sidecar):
            return
        _renamed(sidecar, target / names.numbered(found + names.SIDECAR_SUFFIX, number))


def _is_original_of(place: Path, report: Path, job: str, signature: Signature) -> bool:
    owner = _job_of(report)
    if owner is not None:
        return owner == job
    try:
        found = place.lstat()
    except FileNotFoundError:
        return False
    known = (signature.ino, signature.size, signature.mtime_ns)
    return (found.st_ino, found.st_size, found.st_mtime_ns) == known


def _is_report_of(path: Path, job: str) -> bool:
    return _job_of(path) == job


def _job_of(report: Path) -> str | None:
    try:
        return _report.decode(report.read_bytes()).job_id
    except (FileNotFoundError, IsADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _told(word: str, root: Path, target: Path, found: str | None) -> str | None:
    """The place as it is told: beneath done/ or failed/, whatever these are called on disk."""
    if found is None:
        return None
    return str(Path(word) / target.relative_to(root) / found)
