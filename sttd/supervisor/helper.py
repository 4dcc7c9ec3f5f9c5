"""The helper process of an engine that has one (see `engines.helpers`): started, kept, ended.

Knows no secret: the helper reads them itself. Restarts it when it dies; decides nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from sttd.engines.helpers import Helper
from sttd.supervisor.child import Child
from sttd.supervisor.templates import Output

READY_WITHIN_S = 30.0
AGAIN_S = 1.0
END_WITHIN_S = 2.0  # it may be waiting for an identity service that hangs


class HelperProcess:
    """One helper at one socket for the daemon's life; `renew` starts it with other options."""

    def __init__(self, helper: Helper, on_output: Callable[[str], None]) -> None:
        self.helper = helper
        self._on_output = on_output
        # a short path of its own: a state directory's may be too long for a socket
        self._folder = Path(tempfile.mkdtemp(prefix="sttd-helper-"))
        self.socket = str(self._folder / "s")
        self._options: Mapping[str, object] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = asyncio.Event()
        self._gone = asyncio.Event()
        self._closing = False

    async def renew(self, options: Mapping[str, object]) -> None:
        """Run with these options; returns when it is ready (or has had its time to be)."""
        if self._process is not None and options == self._options:
            return
        await self._end()
        self._options = dict(options)
        self._start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), READY_WITHIN_S)

    async def close(self) -> None:
        """End it and remove its socket."""
        self._closing = True
        await self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        self._ready.clear()
        self._gone.clear()
        Path(self.socket).unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.helper.module, self.socket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        process = self._process
        Child(process.pid, lambda code, number: self._exited(process, code, number))
        with self._process.stdout as stdout:
            Output(os.dup(stdout.fileno()), self._heard)
        self._process.stdin.write(msgspec.json.encode(self._options) + b"\n")
        self._process.stdin.flush()

    def _heard(self, line: str) -> None:
        if line == "ready":
            self._ready.set()
        else:
            self._on_output(line)

    async def _end(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(self._gone.wait(), END_WITHIN_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and whom it asks with
            await self._gone.wait()

    def _exited(
        self, process: subprocess.Popen[bytes], code: int | None, number: int | None
    ) -> None:
        process.returncode = code if code is not None else -(number or 0)
        self._gone.set()
        if self._process is None:
            return  # it was told to end
        self._on_output(f"the helper {self.helper.module} ended ({code=}, signal={number})")
        self._process = None
        self._ready.set()  # whoever waits has waited enough
        if not self._closing:
            asyncio.get_running_loop().call_later(AGAIN_S, self._again)

    def _again(self) -> None:
        if self._process is None and not self._closing:
            self._start()
