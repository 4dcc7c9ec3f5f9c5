"""Recordings to the daemon and outputs from it, in chunks, each answered before the next: flows.

Memory holds one chunk at a time, whatever the length. An upload that the daemon forgot because
it was restarted begins anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

import msgspec

from sttd.client.errors import Refused, SttdError
from sttd.client.flows import BUSY_PAUSE_S, Ask, Do, Flow, Pause, ask
from sttd.client.talk import unexpected
from sttd.wire.codes import Code
from sttd.wire.replies import Fetched, Opened, Received, Submitted
from sttd.wire.requests import CHUNK, Fetch, SubmitChunk, SubmitCommit, SubmitOpen
from sttd.wire.views import JobView, SubmittedView

TRIES = 5  # of sending a whole recording
BUSY_S = 30.0  # how long to go on asking while too many others upload

Progress = Callable[[int, int], None]  # bytes so far, bytes in all
Sink = Callable[[bytes], object]


def send(
    file: IO[bytes], request: SubmitOpen, progress: Progress | None = None
) -> Flow[SubmittedView]:
    """Send a whole recording from where `file` stands; the request's key must be set.

    Raises Refused, DaemonUnavailable, and SttdError when the file changes under way.
    """
    start = file.tell()
    for attempt in range(1, TRIES + 1):
        yield Do(partial(file.seek, start))
        opened = yield from _open(request)
        if isinstance(opened, SubmittedView):
            # a repeated attempt meets the job that its predecessor made
            return msgspec.structs.replace(opened, duplicate=opened.duplicate and attempt == 1)
        try:
            return (yield from _send_all(file, opened, request, progress))
        except Refused as error:
            if error.code != Code.UNKNOWN_UPLOAD or attempt == TRIES:
                raise
    raise AssertionError("the last attempt returns or raises")


def _open(request: SubmitOpen) -> Flow[Opened | SubmittedView]:
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            reply, _ = yield Ask(request)
        except Refused as error:
            if error.code != Code.BUSY or time.monotonic() > deadline:
                raise
            yield Pause(BUSY_PAUSE_S)
            continue
        if isinstance(reply, Submitted):
            return reply.job
        if isinstance(reply, Opened):
            return reply
        raise unexpected(request, reply)


def _send_all(
    file: IO[bytes], opened: Opened, request: SubmitOpen, progress: Progress | None
) -> Flow[SubmittedView]:
    offset = 0
    while offset < request.bytes:
        wanted = min(CHUNK, request.bytes - offset)
        chunk = cast("bytes", (yield Do(partial(file.read, wanted))))
        if not chunk:
            raise SttdError(f"{request.name} became shorter while it was being sent")
        piece = SubmitChunk(upload=opened.upload, offset=offset)
        reply, _ = yield Ask(piece, chunk)
        if not isinstance(reply, Received):
            raise unexpected(piece, reply)
        offset += len(chunk)
        if progress is not None:
            progress(offset, request.bytes)
    return (yield from ask(SubmitCommit(upload=opened.upload), Submitted)).job


def measure(file: IO[bytes]) -> tuple[IO[bytes], int]:
    """A file that can be rewound, at its present place, and the bytes from there on. Blocks.

    A pipe is first copied into a temporary file, which the caller closes: the daemon must know the
    length beforehand.
    """
    if not file.seekable():
        copy = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115 - closed by the caller
        shutil.copyfileobj(file, copy)
        size = copy.tell()
        copy.seek(0)
        return copy, size
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return file, size


def pull(job: str, output: str, sink: Sink) -> Flow[None]:
    """The bytes of one output of a finished job, chunk by chunk, into `sink`, which may block."""
    offset = 0
    while True:
        request = Fetch(job=job, output=output, offset=offset)
        reply, data = yield Ask(request)
        if not isinstance(reply, Fetched):
            raise unexpected(request, reply)
        offset += len(data)
        if data:
            yield Do(partial(sink, data))
        if offset >= reply.size:
            return
        if not data:
            raise SttdError(f"{output} became shorter while it was being read")


def fetch(job: str, output: str) -> Flow[bytes]:
    """One output of a finished job, whole."""
    parts: list[bytes] = []
    yield from pull(job, output, parts.append)
    return b"".join(parts)


def download(job: JobView, folder: str | os.PathLike[str]) -> Flow[list[Path]]:
    """Copy a job's outputs beneath `folder`, each whole or not at all, the manifest last."""
    copies = []
    for output in job.outputs:
        there = Path(folder) / _beneath(output)
        part = there.with_name(f".{there.name}.part")
        file = cast("IO[bytes]", (yield Do(partial(_create, part))))
        try:
            with file:
                yield from pull(job.job, output, file.write)
            yield Do(partial(part.replace, there))
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
        copies.append(there)
    return copies


def _create(part: Path) -> IO[bytes]:
    part.parent.mkdir(parents=True, exist_ok=True)
    return part.open("wb")


def _beneath(output: str) -> PurePosixPath:
    """The output's path, which must not lead out of the folder, whoever answers."""
    path = PurePosixPath(output)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise SttdError(f"the daemon calls an output {output!r}; not copied")
    return path
