"""A peer in a process of its own, in the peers' environment: asked by lines of JSON.

`benchmarks.peers.line` is the other end. Whatever a peer leaves behind is found by a mark in its
environment and ended by pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.support.report import ROOT

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
MARK = "STTD_BENCHMARK"
START_S = 60.0


class PeerError(Exception):
    """It answered with an error, or not at all."""


class PeerHungError(PeerError):
    """No answer in time."""


def marked(mark: str) -> list[int]:
    """Living processes whose environment holds this mark; zombies are none."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def kill_marked(mark: str) -> int:
    """End them all, by pid; how many there were."""
    pids = [pid for pid in marked(mark) if pid != os.getpid()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def environment(mark: str) -> dict[str, str]:
    """For a peer: bytecode is kept, lest whatever it spawns has to compile the Speech SDK first."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, MARK: mark}


class Peer:
    """A running peer; started by `-c`, so that no worker has to import a main module again."""

    def __init__(self, module: str, *args: str) -> None:
        self.mark = uuid.uuid4().hex
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.process = subprocess.Popen(
            [str(PYTHON), "-c", f"from benchmarks.peers.{module} import main; main()", *args],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment(self.mark),
            start_new_session=True,
        )
        self._unread = b""
        self._hangs = False
        try:
            self.versions: dict[str, str] = self.answer(START_S)
        except PeerError:
            self.close()
            raise

    def ask(self, timeout_s: float = 60.0, /, **request: object) -> Any:
        """Send a request and wait for the answer."""
        self.send(**request)
        return self.answer(timeout_s)

    def send(self, **request: object) -> None:
        """Send a request; `answer` must follow."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, timeout_s: float) -> Any:
        """The answer to the last request. Raises PeerHungError, or PeerError with what it said."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        end = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left = end - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                self._hangs = True
                raise PeerHungError(f"no answer within {timeout_s:g} s")
            data = os.read(fd, 1 << 16)
            if not data:
                raise PeerError(f"it ended: {self.tail()}")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply["answer"]

    def tail(self) -> str:
        """The end of what it wrote to standard error."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2000:]

    def close(self) -> None:
        """Let it go in peace unless it hangs, then end what is left."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0 if self._hangs else 10)
        kill_marked(self.mark)
        self.process.wait()
        self.log.close()


@contextlib.contextmanager
def peer(module: str, *args: str) -> Iterator[Peer]:
    """A peer for the time of a `with`."""
    one = Peer(module, *args)
    try:
        yield one
    finally:
        one.close()


def installed() -> bool:
    """Whether `make peers-env` was run."""
    return PYTHON.exists()
