"""Makes finished transcripts visible, whole or not at all: steps 12 and 13.

The siblings first, then their folder's fsync, then the manifest, then the folder again. Nothing
is overwritten. What an earlier life has begun is found and finished. Knows nothing of the ledger
or the inbox; `originals` puts the recordings away.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sttd import layouts
from sttd.supervisor import durable, names
from sttd.supervisor.beneath import rename_noreplace
from sttd.supervisor.folders import make_folders
from sttd.supervisor.manifest import read_manifest
from sttd.supervisor.originals import Originals
from sttd.supervisor.records import JobRow
from sttd.supervisor.spool import Spool
from sttd.wire.messages import Output

STAGING = ".tmp"
_ATTEMPT = re.compile(r"([0-9a-f-]{36})\.([0-9]+)")
_MANIFEST = layouts.file_name("json", "")
_SUFFIXES = tuple(layouts.file_name(name, "") for name in layouts.FORMATS)


class NameTakenError(Exception):
    """A file of somebody else's stands where an output should go; nothing was published."""


class StagingError(Exception):
    """What the worker left in its staging folder is not what it told; nothing was published."""


class Finished(NamedTuple):
    """A published transcript, as the ledger records it."""

    outputs: list[str]  # paths beneath the outbox, the manifest last
    duration_s: float | None
    sha256: str | None
    segments: int


class Outbox:
    """The outbox folder and, by `originals`, done/ and failed/; made where they are missing."""

    def __init__(self, path: Path, *, done: Path, failed: Path, spool: Spool) -> None:
        self.path = path
        self.staging_root = path / STAGING
        self.staging_root.mkdir(parents=True, exist_ok=True)
        durable.sync_folder(path)
        durable.sync_folder(path.parent)
        self._originals = Originals(done, failed, spool)

    def staging(self, job: str, attempt: int) -> Path:
        """Where the worker writes the outputs of this attempt; on the outbox's file system."""
        return self.staging_root / f"{job}.{attempt}"

    # -- names --------------------------------------------------------------------------------
    def taken(self, stem: str) -> bool:
        """Whether a file stands where one of this stem's outputs could go."""
        return any(os.path.lexists(f"{self.path}/{stem}{suffix}") for suffix in _SUFFIXES)

    def around(self, stem: str) -> str:
        """The stem, led around files that stand where its folders should be: a-2/meeting."""
        prefix, base = names.split(stem)
        clear = ""
        for part in prefix.split("/")[:-1]:
            number, free = 1, part
            while not _can_be_folder(self.path / clear / free):
                number += 1
                free = f"{part}-{number}"
            clear += free + "/"
        return clear + base

    # -- publication --------------------------------------------------------------------------
    def publish(self, staging: Path | str, out_name: str, outputs: Sequence[Output]) -> list[str]:
        """Move the outputs (the manifest last) to `out_name`.*; their paths beneath the outbox.

        May be repeated. Raises NameTakenError, StagingError, StorageFull (all of which leave
        nothing visible and the staging folder as it was) and StorageBroken.
        """
        staging = Path(staging)
        job, _ = _attempt_of(staging)
        plan = _plan(outputs, out_name)
        target = self.path / plan[-1][1]
        with durable.storage(f"cannot publish {out_name!r}"):
            if not _is_of(target, job):
                self._check(staging, job, outputs, plan)
                self._place(staging, plan)
            durable.sync_folder(target.parent)
            self.drop(staging)
        return [final for _, final in plan]

    def finish(self, row: JobRow) -> Finished | None:
        """Adopt what the job's last attempt has published, or left ready to be published.

        None: there is no complete result. Raises as `publish`.
        """
        staging = self.staging(row.id, row.attempt)
        if not _is_of(self.path / (row.out_name + _MANIFEST), row.id):
            ready = _ready(staging, row)
            if ready is None:
                return None
            self.publish(staging, row.out_name, ready)
        manifest = read_manifest(self.path / (row.out_name + _MANIFEST))
        assert manifest is not None
        durable.sync_folder((self.path / row.out_name).parent)
        found = [
            row.out_name + suffix
            for suffix in sorted(_SUFFIXES, key=_MANIFEST.__eq__)
            if os.path.lexists(f"{self.path}/{row.out_name}{suffix}")
        ]
        source = manifest.source
        return Finished(found, source.duration_s, source.sha256, len(manifest.segments))

    def drop(self, staging: Path | str) -> None:
        """Remove a staging folder that nobody writes any more; fine when it is gone."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(staging)

    def drop_all(self) -> int:
        """Remove the staging folders of all attempts; how many. When no worker lives."""
        attempts = [path for path in self.staging_root.iterdir() if _ATTEMPT.fullmatch(path.name)]
        for path in attempts:
            self.drop(path)
        return len(attempts)

    def _check(
        self, staging: Path, job: str, outputs: Sequence[Output], plan: list[tuple[str, str]]
    ) -> None:
        """Everything the worker told is there, in staging or (after a crash) already in place."""
        for output, (name, final) in zip(outputs, plan, strict=True):
            for place in (staging / name, self.path / final):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    status = place.lstat()
                    break
            else:
                raise StagingError(f"{staging / name} is missing; the attempt is to be repeated")
            if not stat.S_ISREG(status.st_mode) or status.st_size != output.bytes:
                raise StagingError(f"{place} has not the {output.bytes} bytes that were told")
        manifest = read_manifest(staging / plan[-1][0])
        if manifest is None or manifest.job_id != job:
            raise StagingError(f"{staging / plan[-1][0]} is no manifest of job {job}")

    def _place(self, staging: Path, plan: list[tuple[str, str]]) -> None:
        """Rename everything into place; on any error everything back."""
        prefix = names.split(plan[-1][1])[0]
        folder = make_folders(self.path, prefix)
        if folder != self.path / prefix:
            raise NameTakenError(f"{self.path / prefix}: a file stands where a folder should be")
        placed: list[tuple[Path, Path]] = []
        try:
            for name, final in plan:
                if name == plan[-1][0]:
                    durable.sync_folder(folder)
                source, target = staging / name, self.path / final
                if _rename(source, target):
                    placed.append((source, target))
        except BaseException:
            for source, target in reversed(placed):
                rename_noreplace(str(target), str(source))
            raise

    # -- originals ----------------------------------------------------------------------------
    def dispose_success(self, folder: Path, name: str, *, keep: bool) -> str | None:
        """Put the original of a succeeded job into done/ or delete it, and its spool folder.

        Returns "done/...", or None. May be repeated. Raises StorageFull and StorageBroken.
        """
        if keep:
            return self._originals.keep(folder, name)
        self._originals.delete(folder)
        return None

    def dispose_failure(self, folder: Path, name: str, error_json: bytes) -> str | None:
        """Put the original of a failed job into failed/, its report before it; its folder goes.

        Returns "failed/..."; None when there was no original. May be repeated. Raises as above.
        """
        return self._originals.fail(folder, name, error_json)

    def set_aside(self, source_folder: int, base: str, name: str, error_json: bytes) -> str:
        """Put a file of the inbox that belongs to no job into failed/, its report before it."""
        return self._originals.set_aside(source_folder, base, name, error_json)

    def reclaim(self, original: str, job: str) -> bool:
        """Take failed/... back into the job's spool folder for a retry; False: it is gone."""
        return self._originals.reclaim(original, job)


def _attempt_of(staging: Path) -> tuple[str, int]:
    found = _ATTEMPT.fullmatch(staging.name)
    if found is None:
        raise StagingError(f"{staging} is not named <job>.<attempt>")
    return found[1], int(found[2])


def _plan(outputs: Sequence[Output], out_name: str) -> list[tuple[str, str]]:
    """(name in the staging folder, path beneath the outbox) of each output."""
    if not outputs or not outputs[-1].name.endswith(_MANIFEST):
        raise StagingError("the manifest is not the last of the outputs")
    stem = outputs[-1].name.removesuffix(_MANIFEST)
    plan = []
    for output in outputs:
        suffix = output.name.removeprefix(stem)
        if not output.name.startswith(stem) or suffix not in _SUFFIXES:
            raise StagingError(f"{output.name!r} is no output of {stem!r}")
        plan.append((output.name, out_name + suffix))
    return plan


def _ready(staging: Path, row: JobRow) -> list[Output] | None:
    """The complete outputs in a staging folder: the worker puts the manifest there last."""
    try:
        files = [name for name in os.listdir(staging) if not name.startswith(".")]
    except FileNotFoundError:
        return None
    for name in files:
        manifest = read_manifest(staging / name) if name.endswith(_MANIFEST) else None
        if manifest and (manifest.job_id, manifest.attempts) == (row.id, row.attempt):
            files.sort(key=name.__eq__)
            return [Output(each, (staging / each).lstat().st_size, "") for each in files]
    return None


def _is_of(manifest: Path, job: str) -> bool:
    found = read_manifest(manifest)
    return found is not None and found.job_id == job


def _rename(source: Path, target: Path) -> bool:
    """False: an earlier life has moved it already."""
    try:
        rename_noreplace(str(source), str(target))
    except FileNotFoundError:
        if not os.path.lexists(target):
            raise
        return False
    except FileExistsError:
        raise NameTakenError(f"{target} is in the way and is not ours") from None
    return True


def _can_be_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return True
