"""Recordings to the daemon and outputs from it, in chunks, each answered before the next.

Memory holds one chunk at a time, whatever the length. An upload that the daemon forgot because
it was restarted begins anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from sttd.client.connection import Connection
from sttd.client.errors import Refused, SttdError
from sttd.wire.codes import Code
from sttd.wire.replies import Fetched, Opened, Received, Submitted
from sttd.wire.requests import CHUNK, Fetch, SubmitChunk, SubmitCommit, SubmitOpen
from sttd.wire.views import JobView, SubmittedView

TRIES = 5  # of sending a whole recording
BUSY_S = 30.0  # how long to go on asking while too many others upload
BUSY_PAUSE_S = 0.25

Progress = Callable[[int, int], None]  # bytes so far, bytes in all


def send(
    line: Connection, file: IO[bytes], request: SubmitOpen, progress: Progress | None = None
) -> SubmittedView:
    """Send a whole recording from where `file` stands; the request's key must be set.

    Raises Refused, DaemonUnavailable, and SttdError when the file changes under way.
    """
    start = file.tell()
    for attempt in range(1, TRIES + 1):
        file.seek(start)
        opened = _open(line, request)
        if isinstance(opened, SubmittedView):
            # a repeated attempt meets the job that its predecessor made
            return msgspec.structs.replace(opened, duplicate=opened.duplicate and attempt == 1)
        try:
            return _send_all(line, file, opened, request, progress)
        except Refused as error:
            if error.code != Code.UNKNOWN_UPLOAD or attempt == TRIES:
                raise
    raise AssertionError("the last attempt returns or raises")


def _open(line: Connection, request: SubmitOpen) -> Opened | SubmittedView:
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            reply, _ = line.call(request)
        except Refused as error:
            if error.code != Code.BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_PAUSE_S)
            continue
        if isinstance(reply, Submitted):
            return reply.job
        assert isinstance(reply, Opened)
        return reply


def _send_all(
    line: Connection,
    file: IO[bytes],
    opened: Opened,
    request: SubmitOpen,
    progress: Progress | None,
) -> SubmittedView:
    offset = 0
    while offset < request.bytes:
        chunk = file.read(min(CHUNK, request.bytes - offset))
        if not chunk:
            raise SttdError(f"{request.name} became shorter while it was being sent")
        reply, _ = line.call(SubmitChunk(upload=opened.upload, offset=offset), chunk)
        assert isinstance(reply, Received)
        offset += len(chunk)
        if progress is not None:
            progress(offset, request.bytes)
    reply, _ = line.call(SubmitCommit(upload=opened.upload))
    assert isinstance(reply, Submitted)
    return reply.job


@contextlib.contextmanager
def measured(file: IO[bytes]) -> Iterator[tuple[IO[bytes], int]]:
    """A file that can be rewound, at its present place, and the bytes from there on.

    A pipe is first copied into a temporary file: the daemon must know the length beforehand.
    """
    if not file.seekable():
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            size = copy.tell()
            copy.seek(0)
            yield copy, size
        return
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    yield file, size


def fetch(line: Connection, job: str, output: str) -> Iterator[bytes]:
    """The bytes of one output of a finished job, in chunks."""
    offset = 0
    while True:
        reply, data = line.call(Fetch(job=job, output=output, offset=offset))
        assert isinstance(reply, Fetched)
        offset += len(data)
        if data:
            yield data
        if offset >= reply.size:
            return
        if not data:
            raise SttdError(f"{output} became shorter while it was being read")


def download(line: Connection, job: JobView, folder: str | os.PathLike[str]) -> list[Path]:
    """Copy a job's outputs beneath `folder`, each whole or not at all, the manifest last."""
    copies = []
    for output in job.outputs:
        there = Path(folder) / _beneath(output)
        there.parent.mkdir(parents=True, exist_ok=True)
        part = there.with_name(f".{there.name}.part")
        try:
            with part.open("wb") as file:
                file.writelines(fetch(line, job.job, output))
            part.replace(there)
        finally:
            part.unlink(missing_ok=True)
        copies.append(there)
    return copies


def _beneath(output: str) -> PurePosixPath:
    """The output's path, which must not lead out of the folder, whoever answers."""
    path = PurePosixPath(output)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise SttdError(f"the daemon calls an output {output!r}; not copied")
    return path
