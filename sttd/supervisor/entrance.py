"""The last look at settled recordings while they are still in the inbox: steps 1 and 3.

Opens each beneath the inbox, sees that nobody writes it, syncs it and its sidecar, and sees that
neither has changed meanwhile. Reads the sidecars. Moves nothing, remembers nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sttd.supervisor import names
from sttd.supervisor.beneath import FILE, open_beneath
from sttd.supervisor.durable import Open, Syncer
from sttd.supervisor.lease import is_being_written
from sttd.supervisor.records import NewJob, Signature
from sttd.supervisor.spool import signature_of
from sttd.supervisor.uuid7 import new_id
from sttd.wire import options
from sttd.wire.options import JobOptions, OptionsError


class Entered(NamedTuple):
    """Fit to be taken. `lease_works`: the kernel would have told of a writer."""

    job: NewJob
    lease_works: bool


class Busy(NamedTuple):
    """Somebody writes it, or it has just changed or gone."""


class Refused(NamedTuple):
    """It cannot be taken as it is."""

    reason: str


@dataclass(slots=True)
class _File:
    """An open file that is to be the same after its fsync."""

    descriptor: int
    signature: Signature
    lease_works: bool

    def is_unchanged(self) -> bool:
        return signature_of(os.fstat(self.descriptor)) == self.signature


@dataclass(slots=True)
class _Guest:
    """A recording that may enter, with its sidecar."""

    name: str
    recording: _File
    sidecar: _File | None

    def files(self) -> list[_File]:
        return [self.recording] if self.sidecar is None else [self.recording, self.sidecar]


Entry = Entered | Busy | Refused


def enter(root: int, candidates: Sequence[tuple[str, Signature]], syncer: Syncer) -> list[Entry]:
    """Step 3 for these recordings (name beneath the open inbox `root`, signature that settled).

    Raises StorageBroken or StorageFull when they cannot be synced.
    """
    with Open() as held:
        met = [_meet(root, name, signature, held) for name, signature in candidates]
        files = [file for one in met if isinstance(one, _Guest) for file in one.files()]
        syncer.descriptors([file.descriptor for file in files], "what lies in the inbox")
        return [_admit(one) if isinstance(one, _Guest) else one for one in met]


def _meet(root: int, name: str, signature: Signature, held: Open) -> _Guest | Busy | Refused:
    recording = _open(root, name, held)
    if not isinstance(recording, _File):
        return recording or Busy()
    if recording.signature != signature:
        return Busy()
    sidecar = _open(root, name + names.SIDECAR_SUFFIX, held)
    if isinstance(sidecar, Refused):
        return Refused(f"its sidecar: {sidecar.reason}")
    return sidecar if isinstance(sidecar, Busy) else _Guest(name, recording, sidecar)


def _open(root: int, name: str, held: Open) -> _File | Busy | Refused | None:
    """Open a plain file that nobody writes; None when there is none."""
    try:
        descriptor = held.keep(open_beneath(root, name, FILE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        if error.errno == errno.ENAMETOOLONG:  # a sidecar of so long a name cannot be
            return None
        if error.errno == errno.ELOOP:
            return Refused("a symbolic link is not followed; put the file itself there")
        return Refused(f"cannot be opened: {error.strerror}; give sttd the right to read it")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        return Refused("no plain file with one name; put a copy there")
    written = is_being_written(descriptor)
    if written:
        return Busy()
    return _File(descriptor, signature_of(status), lease_works=written is not None)


def _admit(guest: _Guest) -> Entered | Busy:
    """The job, unless something changed while it was synced."""
    if not all(file.is_unchanged() for file in guest.files()):
        return Busy()
    wishes = JobOptions()
    if guest.sidecar is not None:
        # one that is not valid counts as empty here: `claim` finds it out for good
        with contextlib.suppress(OptionsError):
            wishes = options.decode(os.pread(guest.sidecar.descriptor, options.MAX_BYTES + 1, 0))
    job = NewJob(
        id=new_id(),
        kind="inbox",
        name=guest.name,
        signature=guest.recording.signature,
        stem=names.stem_of(guest.name),
        sidecar=guest.sidecar.signature if guest.sidecar is not None else None,
        options=options.encode(wishes) if guest.sidecar is not None else "{}",
        priority=wishes.priority,
    )
    return Entered(job, guest.recording.lease_works)
