"""The public Python client of sttd; docs/client.md explains it.

    from sttd.client import Client

    with Client() as sttd:
        job = sttd.submit("meeting.wav", languages=["en-US"])
        for segment in sttd.segments(job):
            print(segment.start_s, segment.speaker, segment.text)

`AsyncClient` has the same methods to be awaited. Speaks the protocol of docs/protocol.md and
imports nothing of the daemon, nor asyncio before it is asked for.
"""

from typing import TYPE_CHECKING, Any

from sttd.client.api import Client
from sttd.client.connection import DEFAULT_ENDPOINT, Curve
from sttd.client.errors import (
    DaemonUnavailable,
    JobFailed,
    Refused,
    StreamRestarted,
    SttdError,
    WaitTimeout,
)
from sttd.transcripts import Segment, Word

if TYPE_CHECKING:
    from sttd.client.asynchronous import AsyncClient

__all__ = [
    "DEFAULT_ENDPOINT",
    "AsyncClient",
    "Client",
    "Curve",
    "DaemonUnavailable",
    "JobFailed",
    "Refused",
    "Segment",
    "StreamRestarted",
    "SttdError",
    "WaitTimeout",
    "Word",
]


def __getattr__(name: str) -> Any:
    """AsyncClient, imported when it is first asked for."""
    if name == "AsyncClient":
        from sttd.client.asynchronous import AsyncClient  # noqa: PLC0415 - the point of all this

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
