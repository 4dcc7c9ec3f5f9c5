"""A template process on the asyncio loop: start it, ask it for children, hear that it is gone.

One object per started process. Decides nothing: when to start another is the core's business.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from sttd.supervisor.child import Child
from sttd.supervisor.link import Link
from sttd.wire.messages import (
    Fork,
    Forked,
    ForkFailed,
    FromTemplate,
    Load,
    TemplateBroken,
    TemplateReady,
)

DECODER = msgspec.msgpack.Decoder(FromTemplate)
LINE = 2000  # bytes of one line of output that are kept
CHUNK = 1 << 14
PIPE = 1 << 16  # bytes that a pipe holds (pipe(7))
# For an answer to a request to fork, which takes milliseconds: a template that was stopped or
# hangs would otherwise leave its workers starting for ever.
ANSWER_S = 10.0
LOAD_S = 900.0  # for the engine's model; a template that has not loaded it by then never will


class TemplateListener(Protocol):
    """Whoever wants to know what becomes of a template."""

    def template_ready(self, template: Template, news: TemplateReady) -> None:
        """It can fork."""

    def template_gone(self, template: Template, message: str, *, broken: bool) -> None:
        """It ended; `broken`: it had said that it cannot load what it should."""

    def forked(self, template: Template, news: Forked) -> None:
        """A child exists."""

    def fork_failed(self, template: Template, news: ForkFailed) -> None:
        """No child came of a request."""


class Template:
    """A started template. `on_output(line)` gets what it and its children print."""

    def __init__(
        self,
        order: Load,
        epoch: int,
        listener: TemplateListener,
        on_output: Callable[[str], None],
        environment: Mapping[str, str],
    ) -> None:
        self.order = order
        self.epoch = epoch
        self.ready: TemplateReady | None = None
        self._listener = listener
        self._broken = ""
        self._silent = 0.0  # seconds for which it did not answer, once it is given up
        self._asked: dict[str, asyncio.TimerHandle] = {}  # by worker, until it answers
        ours, theirs = socket.socketpair()
        self._process = self._start(theirs, on_output, environment)
        theirs.close()
        self._child = Child(self._process.pid, self._exited)
        self._link = Link(ours, DECODER, self._heard, lambda _why: None)
        self._expect("", LOAD_S)
        self._link.send(order)

    def _start(
        self,
        sock: socket.socket,
        on_output: Callable[[str], None],
        environment: Mapping[str, str],
    ) -> subprocess.Popen[bytes]:
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "sttd.worker.template", str(sock.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=[sock.fileno()],
                env=dict(environment),
                # Ctrl-C at the terminal is for the supervisor alone. A group, not a session: when
                # the supervisor is killed the group is orphaned, and the kernel ends whoever is
                # stopped in it (setpgid(2)), also one that was before it could ask to die with us
                process_group=0,
            )
        finally:
            os.close(writing)
        Output(reading, on_output)
        return process

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def fork(self, worker: str, generation: int, fds: Sequence[int]) -> None:
        """Ask for a child with these descriptors; raises OSError when nobody is there."""
        self._link.send(Fork(worker, generation), fds)
        self._expect(worker, ANSWER_S)

    def _expect(self, worker: str, seconds: float) -> None:
        self._answered(worker)
        loop = asyncio.get_running_loop()
        self._asked[worker] = loop.call_later(seconds, self._give_up, seconds)

    def stop(self) -> None:
        """Let it finish what it was asked for and go; children live on."""
        self._link.finish()

    def kill(self) -> None:
        """End it now."""
        self._child.send_signal(signal.SIGKILL)

    def _answered(self, worker: str) -> None:
        asked = self._asked.pop(worker, None)
        if asked is not None:
            asked.cancel()

    def _give_up(self, seconds: float) -> None:
        """It does not answer: end it, so that another is started and its workers with it."""
        self._silent = seconds
        self.kill()

    def _heard(self, news: FromTemplate) -> None:
        match news:
            case TemplateReady():
                self._answered("")
                self.ready = news
                self._listener.template_ready(self, news)
            case TemplateBroken(message):
                self._broken = message
            case Forked():
                self._answered(news.worker)
                self._listener.forked(self, news)
            case ForkFailed():
                self._answered(news.worker)
                self._listener.fork_failed(self, news)

    def _exited(self, code: int | None, number: int | None) -> None:
        for asked in self._asked.values():
            asked.cancel()
        self._process.returncode = code if code is not None else -(number or 0)
        self._link.drain()
        self._link.close()
        how = f"died by signal {number}" if number else f"exited with code {code}"
        if self._silent:
            how = f"did not answer for {self._silent:g} s and was killed"
        message = self._broken or f"the template {how}"
        self._listener.template_gone(self, message, broken=bool(self._broken))


class Output:
    """Lines from a pipe that several processes write to; long ones are cut, none is kept."""

    def __init__(self, fd: int, on_line: Callable[[str], None]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._on_line = on_line
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._readable)

    def drain(self) -> None:
        """Take what has been printed by now, and at most what a pipe can hold."""
        for _ in range(PIPE // CHUNK):
            if self._fd < 0 or not self._readable():
                return

    def _readable(self) -> bool:
        """Take what there is; False when there was nothing."""
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LINE:]
        for line in lines:
            if text := line[:LINE].decode(errors="backslashreplace").strip():
                self._on_line(text)
        return True
