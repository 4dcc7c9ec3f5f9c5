"""One transcript on its way out of its staging folder: its names, its checks, its renames.

The siblings go first, the manifest last; when a step fails everything goes back. It syncs
nothing: the outbox does that, for several at once. Knows nothing of the ledger.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sttd import layouts
from sttd.supervisor import durable, names
from sttd.supervisor.beneath import rename_noreplace
from sttd.supervisor.folders import make_folders
from sttd.supervisor.manifest import read_manifest
from sttd.wire.messages import Output

ATTEMPT = re.compile(r"([0-9a-f-]{36})\.([0-9]+)")
MANIFEST = layouts.file_name("json", "")
SUFFIXES = tuple(layouts.file_name(name, "") for name in layouts.FORMATS)


class NameTakenError(Exception):
    """A file of somebody else's stands where an output should go; nothing was published."""


class StagingError(Exception):
    """What the worker left in its staging folder is not what it told; nothing was published."""


class Wish(NamedTuple):
    """What is to be published, and under which name."""

    staging: str
    out_name: str
    outputs: Sequence[Output]  # the manifest last


class Publication:
    """One wish under way. `error` is what stopped it; nothing of it is then visible."""

    def __init__(self, outbox: str, wish: Wish) -> None:
        self.staging = wish.staging
        self.name = wish.out_name
        self.folder = os.path.dirname(f"{outbox}/{wish.out_name}")
        self.finals: list[str] = []  # paths beneath the outbox
        self.error: Exception | None = None
        self._outbox = outbox
        self._outputs = wish.outputs
        self._plan: list[tuple[str, str]] = []  # (name in staging, path beneath the outbox)
        self._placed: list[tuple[str, str]] = []
        self._there = False  # an earlier life has published it

    def do(self, step: Callable[[Publication], None]) -> None:
        """Take a step, unless one before has failed; if it fails, everything goes back."""
        if self.error is not None:
            return
        try:
            with durable.storage(f"cannot publish {self.name!r}"):
                step(self)
        except Exception as error:  # noqa: BLE001 - handed to whoever wished it
            self.error = error
            self.undo()

    def place_siblings(self) -> None:
        """Check everything; make all but the manifest visible."""
        job = _job_of(self.staging)
        # a file may have come to stand there after the name was reserved: m.json of m.wav, for
        # recordings in a folder m.json
        self.name = led_around(self._outbox, self.name)
        self.folder = os.path.dirname(f"{self._outbox}/{self.name}")
        self._plan = _plan(self._outputs, self.name)
        self.finals = [final for _, final in self._plan]
        self._there = is_of(f"{self._outbox}/{self.finals[-1]}", job)
        if self._there:
            return
        self._check(job)
        prefix = names.split(self.finals[-1])[0]
        if prefix:
            folder = Path(self._outbox) / prefix
            if make_folders(Path(self._outbox), prefix) != folder:
                raise NameTakenError(f"{folder}: a file stands where a folder should be")
        for name, final in self._plan[:-1]:
            self._place(name, final)

    def place_manifest(self) -> None:
        """Make it whole; its siblings are durable by now."""
        if not self._there:
            self._place(*self._plan[-1])

    def undo(self) -> None:
        """Move everything back, the manifest first."""
        while self._placed:
            source, target = self._placed.pop()
            rename_noreplace(target, source)

    def _place(self, name: str, final: str) -> None:
        source, target = f"{self.staging}/{name}", f"{self._outbox}/{final}"
        try:
            rename_noreplace(source, target)
        except FileNotFoundError:
            if not os.path.lexists(target):
                raise
        except FileExistsError:
            raise NameTakenError(f"{target} is in the way and is not ours") from None
        else:
            self._placed.append((source, target))

    def _check(self, job: str) -> None:
        """Everything the worker told is there, in staging or (after a crash) already in place."""
        for output, (name, final) in zip(self._outputs, self._plan, strict=True):
            place = f"{self.staging}/{name}"
            status = _status(place) or _status(f"{self._outbox}/{final}")
            if status is None:
                raise StagingError(f"{place} is missing; the attempt is to be repeated")
            if not stat.S_ISREG(status.st_mode) or status.st_size != output.bytes:
                raise StagingError(f"{place} has not the {output.bytes} bytes that were told")
        if not is_of(place, job):
            raise StagingError(f"{place} is no manifest of job {job}")


def led_around(outbox: str | Path, stem: str) -> str:
    """The stem, led around files that stand where its folders should be: a-2/meeting."""
    prefix, base = names.split(stem)
    clear = ""
    for part in prefix.split("/")[:-1]:
        number, free = 1, part
        while not _can_be_folder(f"{outbox}/{clear}{free}"):
            number += 1
            free = f"{part}-{number}"
        clear += free + "/"
    return clear + base


def _can_be_folder(path: str) -> bool:
    status = _status(path)
    return status is None or stat.S_ISDIR(status.st_mode)


def is_of(manifest: str | Path, job: str) -> bool:
    """Whether that file is the manifest of that job."""
    found = read_manifest(manifest)
    return found is not None and found.job_id == job


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _job_of(staging: str) -> str:
    found = ATTEMPT.fullmatch(os.path.basename(staging))
    if found is None:
        raise StagingError(f"{staging} is not named <job>.<attempt>")
    return found[1]


def _plan(outputs: Sequence[Output], out_name: str) -> list[tuple[str, str]]:
    """(name in the staging folder, path beneath the outbox) of each output."""
    if not outputs or not outputs[-1].name.endswith(MANIFEST):
        raise StagingError("the manifest is not the last of the outputs")
    stem = outputs[-1].name.removesuffix(MANIFEST)
    plan = []
    for output in outputs:
        suffix = output.name.removeprefix(stem)
        if not output.name.startswith(stem) or suffix not in SUFFIXES:
            raise StagingError(f"{output.name!r} is no output of {stem!r}")
        plan.append((output.name, out_name + suffix))
    return plan
