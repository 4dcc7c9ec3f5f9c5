"""Where a job's files live while it is ours: spool/<last two of the id>/<id>/.

In it: `audio` (the original), `opts.json` (its sidecar, where it had one), `job.json` (what the
ledger knows of its origin, so that a lost ledger can be rebuilt), `segments.jsonl` (the worker's).
`.upload/` holds recordings that are still being received. Knows paths and job.json; moves nothing
in or out, knows no state of a job, and deletes only the folders of jobs that are over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from sttd.supervisor import durable
from sttd.supervisor.durable import Open
from sttd.supervisor.records import JobRow, NewJob, Signature
from sttd.wire import journal
from sttd.wire.journal import SDK_LOG

AUDIO = "audio"
OPTIONS = "opts.json"
JOB = "job.json"
REPORT = "error.json"  # a failure's report on its way out
EVIDENCE = "evidence.jsonl"
UPLOADS = ".upload"

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHELF = re.compile(r"[0-9a-f]{2}")


class JobFile(msgspec.Struct, frozen=True, kw_only=True):
    """job.json. File names are percent-encoded (RFC 3986): they need not be text."""

    schema: Literal["sttd.job/1"] = "sttd.job/1"
    job: str
    kind: Literal["inbox", "control", "url"]
    name: str
    stem: str
    signature: Signature
    sidecar: Signature | None = None
    options: str = "{}"
    priority: int = 0
    key: str | None = None
    uid: int | None = None
    created_ns: int = 0

    def new_job(self) -> NewJob:
        """The job as it was handed to the ledger."""
        return NewJob(
            id=self.job,
            kind=self.kind,
            name=_unquote(self.name),
            signature=self.signature,
            stem=_unquote(self.stem),
            sidecar=self.sidecar,
            options=self.options,
            priority=self.priority,
            key=self.key,
            uid=self.uid,
        )


def _quote(name: str) -> str:
    return urllib.parse.quote(os.fsencode(name), safe="/ ")


def _unquote(text: str) -> str:
    return os.fsdecode(urllib.parse.unquote_to_bytes(text))


_decoder = msgspec.json.Decoder(JobFile)


def is_job_id(text: str) -> bool:
    """Whether this is the name of a job's folder, and not something else in the spool."""
    return _ID.fullmatch(text) is not None


def signature_of(status: os.stat_result) -> Signature:
    """What tells that a file has not changed, from its fstat."""
    return Signature(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


class Spool:
    """The spool beneath `root`, which is made, private to the daemon, where it is missing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)  # joined by hand where it is done for every recording
        self.uploads = root / UPLOADS
        self.logs = root.parent / "logs"
        self.uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
        durable.sync_folder(root)
        durable.sync_folder(root.parent)

    def shelf(self, job: str) -> Path:
        """The folder that holds the job's folder; by the id's random end, so evenly filled."""
        return self.root / job[-2:]

    def folder(self, job: str) -> Path:
        """The job's folder."""
        return self.shelf(job) / job

    def audio(self, job: str) -> Path:
        """The job's recording."""
        return self.folder(job) / AUDIO

    def audio_path(self, job: str) -> str:
        """The same, where it is asked for every recording."""
        return f"{self._root}/{job[-2:]}/{job}/{AUDIO}"

    def options(self, job: str) -> Path:
        """The job's sidecar, which may not be there."""
        return self.folder(job) / OPTIONS

    def make(self, job: str) -> str:
        """The job's folder, made where it is missing; not yet durable, see `open_folders`."""
        shelf = f"{self._root}/{job[-2:]}"
        folder = f"{shelf}/{job}"
        while True:
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                return folder
            except FileNotFoundError:
                # another thread may just be removing the shelf because it was empty
                with contextlib.suppress(FileExistsError):
                    os.mkdir(shelf, 0o700)
            else:
                return folder

    def write_job(self, row: JobRow, signature: Signature) -> int:
        """Write job.json; the open descriptor, to be synced and closed by the caller.

        `signature` is that of the recording in the spool.
        """
        job = JobFile(
            job=row.id,
            kind=row.kind,
            name=_quote(row.name),
            stem=_quote(row.out_name),
            signature=signature,
            sidecar=row.sidecar,
            options=row.options,
            priority=row.priority,
            key=row.key,
            uid=row.uid,
            created_ns=row.created_ns,
        )
        path = f"{self._root}/{row.id[-2:]}/{row.id}/{JOB}"
        return durable.write_unsynced(path, msgspec.json.encode(job))

    def make_known(self, row: JobRow) -> None:
        """Write job.json for the recording that lies in the job's folder, durably."""
        with Open() as held:
            descriptor = self.write_job(row, signature_of(self.audio(row.id).lstat()))
            durable.sync(held.keep(descriptor), "job.json")
            durable.sync(held.file(self.folder(row.id)), "the names in a job's folder")

    def read_job(self, job: str) -> JobFile | None:
        """What job.json says; None where there is none that can be read and is this job's."""
        try:
            found = _decoder.decode((self.folder(job) / JOB).read_bytes())
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return found if found.job == job else None

    def open_folders(self, jobs: Iterable[str], held: Open) -> list[int]:
        """These jobs' folders, their shelves and the root, to be synced."""
        ids = list(jobs)
        shelves = {job[-2:] for job in ids}
        return [
            *(held.file(f"{self._root}/{job[-2:]}/{job}") for job in ids),
            *(held.file(f"{self._root}/{shelf}") for shelf in shelves),
            held.file(self._root),
        ]

    def testify(self, job: str, line: bytes) -> None:
        """Add a line of evidence to a job that is still in the spool, if the disk will take it.

        Evidence is worth having, and not worth failing for.
        """
        with contextlib.suppress(OSError), self.evidence(job).open("ab") as file:
            file.write(line + b"\n")

    def evidence(self, job: str) -> Path:
        """What was found out about attempts that ended badly, one JSON object a line."""
        return self.folder(job) / EVIDENCE

    def kept_evidence(self, job: str) -> Path:
        """The same, once the job's folder is gone."""
        return self.logs / f"{job}.{EVIDENCE}"

    def journal(self, job: str) -> Path:
        """What its worker has heard so far; nothing is there before the first attempt."""
        return self.folder(job) / journal.NAME

    def _keep_logs(self, job: str, folder: str) -> None:
        """An engine's log and the evidence outlive the spool, if the disk allows it.

        A job that hung once and then succeeded is where somebody asks what it hung in.
        """
        for name in (SDK_LOG, f"{SDK_LOG}.1", EVIDENCE):
            with contextlib.suppress(OSError):
                os.rename(f"{folder}/{name}", self.logs / f"{job}.{name}")

    def remove(self, job: str) -> None:
        """Delete the job's folder and what is left in it, and an empty shelf; may be repeated."""
        shelf = f"{self._root}/{job[-2:]}"
        folder = f"{shelf}/{job}"
        with contextlib.suppress(FileNotFoundError):
            try:
                for name in (JOB, journal.NAME):  # all that is left of nearly every job
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(f"{folder}/{name}")
                os.rmdir(folder)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                self._keep_logs(job, folder)
                shutil.rmtree(folder)
        with contextlib.suppress(OSError):
            os.rmdir(shelf)

    def jobs(self) -> Iterator[str]:
        """The ids of all folders in the spool, in no order."""
        for shelf in os.listdir(self.root):
            if _SHELF.fullmatch(shelf):
                yield from filter(is_job_id, os.listdir(self.root / shelf))

    def contents(self, job: str) -> set[str]:
        """The names in the job's folder."""
        try:
            return set(os.listdir(self.folder(job)))
        except FileNotFoundError:
            return set()

    def new_upload(self) -> Path:
        """A path for a recording about to be received; nothing is there yet."""
        return self.uploads / secrets.token_hex(16)

    def find_upload(self, signature: Signature) -> Path | None:
        """The complete upload that a job was begun for, by its inode and size."""
        for path in self.uploads.iterdir():
            with contextlib.suppress(FileNotFoundError):  # an upload that was just aborted
                status = path.lstat()
                if (status.st_ino, status.st_size) == (signature.ino, signature.size):
                    return path
        return None

    def clear_uploads(self) -> int:
        """Delete what earlier lives of the daemon left half-received; how many there were."""
        paths = list(self.uploads.iterdir())
        for path in paths:
            path.unlink()
        return len(paths)
