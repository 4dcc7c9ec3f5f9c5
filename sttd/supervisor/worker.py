"""What the pool holds of one worker, from the request to fork until it is reaped.

A record only: the pool acts on it.
"""

from __future__ import annotations

import os
import socket

from sttd import linux
from sttd.supervisor.child import Child
from sttd.supervisor.companions import Companion
from sttd.supervisor.link import Link
from sttd.supervisor.templates import Output, Template


class Worker:
    """A worker's processes and its link."""

    def __init__(
        self,
        name: str,
        generation: int,
        template: Template,
        companion: Companion,
        decoder: socket.socket | None,
    ) -> None:
        self.name = name
        self.generation = generation
        self.template = template
        self.link: Link | None = None
        self.child: Child | None = None
        self.companion = companion  # its decoder
        self.decoder = decoder  # the end that is to be the decoder's, until that is asked for
        self.busy = False
        self.printed: Output | None = None
        self.failure = ""
        self.condemned = False  # the SIGKILL that it dies of is ours
        self.oom_kills = linux.oom_kills()  # anywhere, until now
        self.stacks = os.memfd_create(f"stacks of {name}", os.MFD_CLOEXEC)
