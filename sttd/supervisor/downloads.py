"""Finished outputs on their way out over the control socket, a chunk at a time.

Reads beneath the outbox only, follows no link, and keeps nothing open in between. Which job may
be read, and what its outputs are called, is known by who calls.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from sttd.wire.codes import Code
from sttd.wire.replies import Error, Fetched
from sttd.wire.requests import CHUNK, RequestError


async def read_output(outbox: Path, name: str, offset: int) -> tuple[Fetched, bytes]:
    """At most CHUNK bytes from `offset` of the output `name`, a path beneath `outbox`.

    Raises RequestError(unknown_output) when it is not there any more.
    """
    return await asyncio.to_thread(_read, outbox, name, offset)


def _read(outbox: Path, name: str, offset: int) -> tuple[Fetched, bytes]:
    try:
        fd = os.open(outbox / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _gone(name, error.strerror or str(error)) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _gone(name, "no plain file")
        return Fetched(size=status.st_size, offset=offset), os.pread(fd, CHUNK, offset)
    finally:
        os.close(fd)


def _gone(name: str, why: str) -> RequestError:
    return RequestError(
        Error.of(Code.UNKNOWN_OUTPUT, f"{name} cannot be read from the outbox: {why}")
    )
