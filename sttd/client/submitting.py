"""Ways of handing over a recording: by reference where the daemon allows it, else its bytes."""

from __future__ import annotations

import io
import os
import uuid
from pathlib import Path
from typing import IO

from sttd.client.connection import Connection
from sttd.client.errors import Refused, SttdError
from sttd.client.transfer import Progress, measured, send
from sttd.wire.codes import Code
from sttd.wire.replies import Submitted
from sttd.wire.requests import SubmitOpen, SubmitPath, SubmitUrl
from sttd.wire.views import SubmittedView

Recording = str | os.PathLike[str] | bytes | IO[bytes]


def submit(
    line: Connection,
    recording: Recording,
    *,
    name: str | None,
    options: dict[str, object],
    priority: int | None,
    key: str | None,
    progress: Progress | None = None,
) -> SubmittedView:
    """Hand over a recording; see `Client.submit`. Raises OSError when it cannot be read."""
    key = key or _new_key()
    if isinstance(recording, bytes):
        recording = io.BytesIO(recording)
    if isinstance(recording, str | os.PathLike):
        path = Path(recording)
        with path.open("rb") as file:
            # opened first: what we cannot read ourselves is not ours to hand over
            there = str(path.absolute())
            if name is None and there.isprintable():  # JSON cannot hold every path
                request = SubmitPath(path=there, options=options, priority=priority, key=key)
                if (job := _by_reference(line, request)) is not None:
                    return job
            return _send(line, file, name or path.name, options, priority, key, progress)
    given = name or os.path.basename(str(getattr(recording, "name", "")))
    if not given:
        raise ValueError("a recording without a file name needs `name`, like 'meeting.wav'")
    return _send(line, recording, given, options, priority, key, progress)


def submit_url(
    line: Connection,
    url: str,
    *,
    options: dict[str, object],
    priority: int | None,
    key: str | None,
) -> SubmittedView:
    """Have the daemon fetch a recording; see `Client.submit_url`."""
    reply, _ = line.call(
        SubmitUrl(url=url, options=options, priority=priority, key=key or _new_key())
    )
    return _submitted(reply)


def _by_reference(line: Connection, request: SubmitPath) -> SubmittedView | None:
    """The job, or None where the daemon is elsewhere, or wants the bytes."""
    if not line.endpoint.startswith("ipc:"):
        return None
    try:
        reply, _ = line.call(request)
    except Refused as error:
        if error.code == Code.NOT_ALLOWED:
            return None
        raise
    return _submitted(reply)


def _send(
    line: Connection,
    file: IO[bytes],
    name: str,
    options: dict[str, object],
    priority: int | None,
    key: str,
    progress: Progress | None,
) -> SubmittedView:
    with measured(file) as (whole, size):
        request = SubmitOpen(
            name=_printable(name), bytes=size, options=options, priority=priority, key=key
        )
        return send(line, whole, request, progress)


def _submitted(reply: object) -> SubmittedView:
    if not isinstance(reply, Submitted):
        raise SttdError(f"a submission was answered with {type(reply).__name__}")
    return reply.job


def _new_key() -> str:
    """A key of our own, so that a request which is repeated makes no second job."""
    return f"client/{uuid.uuid4()}"


def _printable(name: str) -> str:
    r"""A file name fit for JSON: bytes that are no UTF-8 show as `\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
