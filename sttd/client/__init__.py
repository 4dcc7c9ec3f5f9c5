"""The public Python client of sttd.

    from sttd.client import Client

    with Client() as sttd:
        job = sttd.submit("meeting.wav", languages=["en-US"])
        (done,) = sttd.wait(job.job, timeout=600)
        print(sttd.fetch(done.job, done.outputs[-1]))

Speaks the protocol of docs/protocol.md and imports nothing of the daemon.
"""

from sttd.client.api import DEFAULT_ENDPOINT, Client
from sttd.client.connection import Curve
from sttd.client.errors import DaemonUnavailable, Refused, SttdError, WaitTimeout

__all__ = [
    "DEFAULT_ENDPOINT",
    "Client",
    "Curve",
    "DaemonUnavailable",
    "Refused",
    "SttdError",
    "WaitTimeout",
]
