"""Recordings on their way in over the control socket: chunks into files, one file an upload.

An upload is nothing durable: what is lost before its commit was never accepted, and the client
sends it again. Making a job of a whole file is the injected `accept`'s business, and whether there
is room for one more `admit`'s. Files are written in threads, never in the event loop. A disk that
takes nothing is an answer to the client; one that is broken is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sttd.supervisor import descriptors, durable
from sttd.supervisor.access import Peer
from sttd.supervisor.durable import StorageBroken, StorageFull
from sttd.wire.codes import Code
from sttd.wire.replies import Error, Opened, Received, Reply, Submitted
from sttd.wire.requests import (
    RequestError,
    SubmitAbort,
    SubmitChunk,
    SubmitCommit,
    SubmitOpen,
)

MAX_OPEN = 32  # uploads at once; fewer than requests in flight, so that all may commit together
IDLE_S = 120.0  # an upload nobody continues is forgotten
REMEMBERED = 256  # answers to commits, for clients that did not get theirs
THREADS = 2

# None: go on. A reply: this is the answer instead (the job of a known key, a full queue).
Admit = Callable[[SubmitOpen, Peer], Awaitable[Reply | None]]
# Makes a job of the whole, synced file, which it moves away or deletes; durable when it returns.
Accept = Callable[[Path, SubmitOpen, Peer], Awaitable[Reply]]


class _Upload:
    """One file being received."""

    def __init__(self, path: Path, request: SubmitOpen, peer: Peer, now: float) -> None:
        self.path = path
        self.request = request
        self.uid = peer.uid
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.received = 0
        self.touched = now
        self.lock = asyncio.Lock()

    def close(self) -> None:
        """Give the descriptor back; may be repeated."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Uploads:
    """All uploads under way, in files of `new_path()`'s choosing; at most `max_bytes` each."""

    def __init__(
        self,
        new_path: Callable[[], Path],
        *,
        max_bytes: int,
        admit: Admit,
        accept: Accept,
        idle_s: float = IDLE_S,
        max_open: int = MAX_OPEN,
    ) -> None:
        self._new_path = new_path
        self.max_bytes = max_bytes  # may be changed by a reload
        self._admit = admit
        self._accept = accept
        self._idle_s = idle_s
        self._max_open = min(max_open, descriptors.uploads_at_once())
        self._uploads: dict[str, _Upload] = {}
        self._committed: OrderedDict[str, tuple[int | None, Reply]] = OrderedDict()
        self._threads = ThreadPoolExecutor(THREADS, "upload")

    async def open(self, request: SubmitOpen, peer: Peer) -> Reply:
        """Make room for a recording, unless `admit` has another answer."""
        if request.bytes > self.max_bytes:
            raise _refusal(
                Code.TOO_LARGE,
                f"{request.name}: {request.bytes} bytes exceed limits.max_file_size, "
                f"{self.max_bytes}",
            )
        if (instead := await self._admit(request, peer)) is not None:
            return instead
        self.expire()
        if len(self._uploads) >= self._max_open:
            raise _refusal(
                Code.BUSY, f"{self._max_open} uploads are under way", "try again in a moment"
            )
        path = self._new_path()
        with _storage(request.name):
            self._uploads[path.name] = _Upload(path, request, peer, self._now())
        return Opened(path.name)

    async def write(self, request: SubmitChunk, data: memoryview, peer: Peer) -> Reply:
        """Take a chunk; one that is there already, sent again, is taken as written."""
        upload = self._find(request.upload, peer)
        async with upload.lock:
            upload = self._find(request.upload, peer)
            upload.touched = self._now()
            end = request.offset + len(data)
            if end > upload.request.bytes:
                raise _refusal(
                    Code.BAD_OFFSET,
                    f"{upload.request.bytes} bytes were announced, the chunk ends at {end}",
                )
            if end > upload.received:
                if request.offset != upload.received:
                    raise _refusal(
                        Code.BAD_OFFSET,
                        f"the chunk begins at {request.offset}, {upload.received} bytes are here",
                    )
                with _storage(upload.request.name):
                    await self._thread(_write, upload.fd, data, request.offset)
                upload.received = end
            return Received(request.upload, upload.received)

    async def commit(self, request: SubmitCommit, peer: Peer) -> Reply:
        """Make a job of a whole upload; asked again, give the same answer again."""
        upload = self._uploads.get(request.upload)
        if upload is None:
            return self._remembered(request.upload, peer)
        async with upload.lock:
            if request.upload not in self._uploads:
                return self._remembered(request.upload, peer)
            upload = self._find(request.upload, peer)
            if upload.received != upload.request.bytes:
                raise _refusal(
                    Code.BAD_OFFSET,
                    f"{upload.request.bytes} bytes were announced, {upload.received} are here",
                )
            try:
                with _storage(upload.request.name):
                    await self._thread(durable.sync, upload.fd, upload.request.name)
                reply = await self._accept(upload.path, upload.request, peer)
            except StorageBroken:  # a second fsync would lie
                with contextlib.suppress(OSError):
                    self._forget(request.upload, upload)
                raise
            self._forget(request.upload, upload)
            if isinstance(reply, Submitted):
                self._remember(request.upload, peer, reply)
            return reply

    async def abort(self, request: SubmitAbort, peer: Peer) -> Reply:
        """Forget an upload and its bytes."""
        upload = self._find(request.upload, peer)
        async with upload.lock:
            self._forget(request.upload, upload)
        return Received(request.upload, 0)

    def expire(self) -> int:
        """Forget the uploads that nobody continues; how many there were. Call it now and then."""
        oldest = self._now() - self._idle_s
        idle = {
            key: upload
            for key, upload in self._uploads.items()
            if upload.touched < oldest and not upload.lock.locked()
        }
        for key, upload in idle.items():
            self._forget(key, upload)
        return len(idle)

    def close(self) -> None:
        """Forget everything; what was not committed was never accepted."""
        self._threads.shutdown()
        for key, upload in list(self._uploads.items()):
            self._forget(key, upload)

    # -- inside -------------------------------------------------------------------------------
    def _find(self, key: str, peer: Peer) -> _Upload:
        upload = self._uploads.get(key)
        if upload is None or upload.uid != peer.uid:
            raise _refusal(
                Code.UNKNOWN_UPLOAD, f"there is no upload {key}", "open a new one and send it again"
            )
        return upload

    def _remembered(self, key: str, peer: Peer) -> Reply:
        uid, reply = self._committed.get(key, (None, None))
        if reply is None or uid != peer.uid:
            raise _refusal(
                Code.UNKNOWN_UPLOAD, f"there is no upload {key}", "open a new one and send it again"
            )
        return reply

    def _remember(self, key: str, peer: Peer, reply: Reply) -> None:
        self._committed[key] = (peer.uid, reply)
        while len(self._committed) > REMEMBERED:
            self._committed.popitem(last=False)

    def _forget(self, key: str, upload: _Upload) -> None:
        """Close the file; delete it unless `accept` has moved it."""
        self._uploads.pop(key, None)
        upload.close()
        upload.path.unlink(missing_ok=True)

    async def _thread(self, work: Callable[..., None], *args: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _write(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data = data[written:]
        offset += written


@contextlib.contextmanager
def _storage(name: str) -> Iterator[None]:
    """A disk that takes nothing as an answer to the client; a broken one is raised."""
    try:
        with durable.storage(f"cannot store {name}"):
            yield
    except (StorageFull, OSError) as error:
        full = isinstance(error, StorageFull)
        raise _refusal(
            Code.ENVIRONMENT,
            str(error) if full else f"cannot store {name}: {error}",
            "make room on the daemon's disk" if full else "see the daemon's log",
        ) from error


def _refusal(code: Code, message: str, hint: str = "") -> RequestError:
    return RequestError(Error.of(code, message, hint))
