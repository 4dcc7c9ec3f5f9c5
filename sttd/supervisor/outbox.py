"""Makes finished transcripts visible, whole or not at all: steps 12 and 13.

The siblings first, then their folder's fsync, then the manifest, then the folder again. Nothing
is overwritten. What an earlier life has begun is found and finished. Knows nothing of the ledger
or the inbox; `originals` puts the recordings away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sttd.supervisor import durable
from sttd.supervisor.manifest import read_manifest
from sttd.supervisor.originals import Originals
from sttd.supervisor.publication import (
    ATTEMPT,
    MANIFEST,
    SUFFIXES,
    NameTakenError,
    Publication,
    StagingError,
    Wish,
    is_of,
    led_around,
)
from sttd.supervisor.records import JobRow, Signature
from sttd.supervisor.spool import Spool
from sttd.wire.messages import Output

__all__ = ["STAGING", "Finished", "NameTakenError", "Outbox", "StagingError", "Wish"]

STAGING = ".tmp"


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
        return any(os.path.lexists(f"{self.path}/{stem}{suffix}") for suffix in SUFFIXES)

    def around(self, stem: str) -> str:
        """The stem, led around files that stand where its folders should be: a-2/meeting."""
        return led_around(self.path, stem)

    # -- publication --------------------------------------------------------------------------
    def publish(self, staging: Path | str, out_name: str, outputs: Sequence[Output]) -> list[str]:
        """Move the outputs (the manifest last) to `out_name`.*; their paths beneath the outbox.

        Led `around` what stands there by now. May be repeated. Raises NameTakenError, StagingError,
        StorageFull (all of which leave nothing visible and the staging folder as it was) and
        StorageBroken.
        """
        [done] = self.publish_all([Wish(str(staging), out_name, outputs)])
        if isinstance(done, Exception):
            raise done
        return done

    def publish_all(self, wishes: Sequence[Wish]) -> list[list[str] | Exception]:
        """The same for several, with one fsync of a folder for all; each stands for itself."""
        batch = [Publication(str(self.path), wish) for wish in wishes]
        for one in batch:
            one.do(Publication.place_siblings)
        _sync_folders(batch, undo=True)
        for one in batch:
            one.do(Publication.place_manifest)
        _sync_folders(batch, undo=False)
        for one in batch:
            if one.error is None:
                self.drop(one.staging)
        return [one.finals if one.error is None else one.error for one in batch]

    def finish(self, row: JobRow) -> Finished | None:
        """Adopt what the job's last attempt has published, or left ready to be published.

        None: there is no complete result. Raises as `publish`.
        """
        staging = self.staging(row.id, row.attempt)
        name = self.around(row.out_name)
        if not is_of(self.path / (name + MANIFEST), row.id):
            ready = _ready(staging, row)
            if ready is None:
                return None
            self.publish(staging, name, ready)
        manifest = read_manifest(self.path / (name + MANIFEST))
        assert manifest is not None
        durable.sync_folder((self.path / name).parent)
        found = [
            name + suffix
            for suffix in sorted(SUFFIXES, key=MANIFEST.__eq__)
            if os.path.lexists(f"{self.path}/{name}{suffix}")
        ]
        source = manifest.source
        return Finished(found, source.duration_s, source.sha256, len(manifest.segments))

    def drop(self, staging: Path | str) -> None:
        """Remove a staging folder that nobody writes any more; fine when it is gone."""
        try:
            os.rmdir(staging)  # empty, once everything was moved out of it
        except FileNotFoundError:
            return
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(staging)

    def drop_all(self) -> int:
        """Remove the staging folders of all attempts; how many. When no worker lives."""
        attempts = [path for path in self.staging_root.iterdir() if ATTEMPT.fullmatch(path.name)]
        for path in attempts:
            self.drop(path)
        return len(attempts)

    # -- originals ----------------------------------------------------------------------------
    def dispose_successes(
        self, jobs: Sequence[tuple[Path, str]], *, keep: bool
    ) -> list[str | Exception | None]:
        """Put the originals of succeeded jobs, (spool folder, name), into done/ or delete them.

        "done/..." or None for each, or StorageFull or StorageBroken; their folders go. May be
        repeated.
        """
        return (self._originals.keep if keep else self._originals.delete)(jobs)

    def dispose_failure(self, folder: Path, name: str, error_json: bytes) -> str | None:
        """Put the original of a failed job into failed/, its report before it; its folder goes.

        Returns "failed/..."; None when there was no original. May be repeated. Raises as above.
        """
        return self._originals.fail(folder, name, error_json)

    def set_aside(self, source_folder: int, base: str, name: str, error_json: bytes) -> str:
        """Put a file of the inbox that belongs to no job into failed/, its report before it."""
        return self._originals.set_aside(source_folder, base, name, error_json)

    def reclaim(self, original: str, job: str, signature: Signature) -> bool:
        """Take failed/... back into the job's spool folder for a retry; False: it is gone."""
        return self._originals.reclaim(original, job, signature)


def _sync_folders(batch: Sequence[Publication], *, undo: bool) -> None:
    """Make the names durable; what cannot be is told to those whose names they are."""
    for folder in {one.folder for one in batch if one.error is None}:
        try:
            with durable.storage(f"cannot publish in {folder}"):
                durable.sync_folder(folder)
        except Exception as error:  # noqa: BLE001 - handed to whoever wished it
            for one in batch:
                if one.folder == folder and one.error is None:
                    one.error = error
                    if undo:
                        one.undo()


def _ready(staging: Path, row: JobRow) -> list[Output] | None:
    """The complete outputs in a staging folder: the worker puts the manifest there last."""
    try:
        files = [name for name in os.listdir(staging) if not name.startswith(".")]
    except FileNotFoundError:
        return None
    for name in files:
        manifest = read_manifest(staging / name) if name.endswith(MANIFEST) else None
        if manifest and (manifest.job_id, manifest.attempts) == (row.id, row.attempt):
            files.sort(key=name.__eq__)
            return [Output(each, (staging / each).lstat().st_size, "") for each in files]
    return None
