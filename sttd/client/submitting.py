"""Flows that hand over a recording: by reference where the daemon allows it, else its bytes."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, cast

from sttd.client.errors import Refused
from sttd.client.flows import Do, Flow, ask
from sttd.client.transfer import Progress, measure, send
from sttd.wire.codes import Code
from sttd.wire.replies import Submitted
from sttd.wire.requests import SubmitOpen, SubmitPath, SubmitUrl
from sttd.wire.views import SubmittedView

Recording = str | os.PathLike[str] | bytes | IO[bytes]
Options = Mapping[str, object]


def submit(
    recording: Recording,
    *,
    near: bool,
    name: str | None,
    options: Options,
    priority: int | None,
    key: str | None,
    progress: Progress | None = None,
) -> Flow[SubmittedView]:
    """Hand over a recording; see `Client.submit`. `near`: the daemon may see our files.

    Raises OSError when it cannot be read.
    """
    key = key or _new_key()
    if isinstance(recording, bytes):
        recording = io.BytesIO(recording)
    if isinstance(recording, str | os.PathLike):
        path = Path(recording)
        with cast("IO[bytes]", (yield Do(partial(path.open, "rb")))) as file:
            # opened first: what we cannot read ourselves is not ours to hand over
            there = str(path.absolute())
            if near and name is None and there.isprintable():  # JSON cannot hold every path
                request = SubmitPath(path=there, options=dict(options), priority=priority, key=key)
                if (job := (yield from _by_reference(request))) is not None:
                    return job
            return (yield from _send(file, name or path.name, options, priority, key, progress))
    given = name or os.path.basename(str(getattr(recording, "name", "")))
    if not given:
        raise ValueError("a recording without a file name needs `name`, like 'meeting.wav'")
    return (yield from _send(recording, given, options, priority, key, progress))


def submit_url(
    url: str, *, options: Options, priority: int | None, key: str | None
) -> Flow[SubmittedView]:
    """Have the daemon fetch a recording; see `Client.submit_url`."""
    request = SubmitUrl(url=url, options=dict(options), priority=priority, key=key or _new_key())
    return (yield from ask(request, Submitted)).job


def wishes(options: Options | None, languages: tuple[str, ...]) -> Options:
    """A job's options as one object."""
    return {**(options or {}), **({"languages": list(languages)} if languages else {})}


def _by_reference(request: SubmitPath) -> Flow[SubmittedView | None]:
    """The job, or None where the daemon wants the bytes."""
    try:
        return (yield from ask(request, Submitted)).job
    except Refused as error:
        if error.code == Code.NOT_ALLOWED:
            return None
        raise


def _send(
    file: IO[bytes],
    name: str,
    options: Options,
    priority: int | None,
    key: str,
    progress: Progress | None,
) -> Flow[SubmittedView]:
    whole, size = cast("tuple[IO[bytes], int]", (yield Do(partial(measure, file))))
    try:
        request = SubmitOpen(
            name=_printable(name), bytes=size, options=dict(options), priority=priority, key=key
        )
        return (yield from send(whole, request, progress))
    finally:
        if whole is not file:
            whole.close()


def _new_key() -> str:
    """A key of our own, so that a request which is repeated makes no second job."""
    return f"client/{uuid.uuid4()}"


def _printable(name: str) -> str:
    r"""A file name fit for JSON: bytes that are no UTF-8 show as `\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
