"""A decoder's life as a worker's companion: confine itself, then decode until the worker is gone.

Imported by the decoders' template, so that FFmpeg's libraries are loaded once. Holds no
credentials, opens no file: it decodes the descriptors it is handed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import av

from sttd.wire.messages import Fork
from sttd.worker import decoder, sandbox

VERSION = str(av.__version__)


def run(_fork: Fork, fds: list[int], adopt: Callable[[], None]) -> None:
    """Serve the worker at the other end of the one descriptor; returns at end of file."""
    adopt()  # behind the walls its parent can no longer be asked for
    sandbox.confine()
    decoder.serve(socket.socket(fileno=fds[0]))
