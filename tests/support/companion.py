"""A real decoder in a real process, confined as in production, and jobs for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from sttd.engines import EngineError
from sttd.wire.messages import DecodeLimits
from sttd.worker.audio import DecodedAudio
from sttd.worker.stream import UndecodableError

REPOSITORY = Path(__file__).resolve().parents[2]
GENEROUS = DecodeLimits(max_duration_s=600.0, max_channels=8)
PROGRAM = """
import socket, sys
from sttd.worker import decoder, sandbox
{setup}
sandbox.confine()
decoder.serve(socket.socket(fileno=int(sys.argv[1])))
"""


class Heard(NamedTuple):
    """What came of a recording: its samples, or the code and message of the refusal."""

    pcm: bytes
    total_s: float
    duration_s: float | None
    damage: str
    code: str = ""
    message: str = ""


class Companion:
    """A decoder process; a context manager that ends it. `setup` is run in it beforehand."""

    def __init__(self, setup: str = "") -> None:
        self.sock, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(setup=setup), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "STTD_TEST_SECRET": "x"},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.sock.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def open(
        self,
        path: Path,
        *,
        start_s: float = 0.0,
        limits: DecodeLimits = GENEROUS,
        on_progress: Callable[[float], None] = lambda _position: None,
        on_report: Callable[[EngineError], None] = lambda _error: None,
        interval_s: float = 0.0,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> DecodedAudio:
        return DecodedAudio(
            self.sock,
            path=str(path),
            name=path.name,
            start_s=start_s,
            limits=limits,
            on_progress=on_progress,
            on_report=on_report,
            interval_s=interval_s,
            clock=clock,
        )

    def hear(self, path: Path, *, start_s: float = 0.0, limits: DecodeLimits = GENEROUS) -> Heard:
        """Decode to the end. Raises DecoderDiedError."""
        pcm = bytearray()
        try:
            audio = self.open(path, start_s=start_s, limits=limits)
        except UndecodableError as error:
            return Heard(b"", 0.0, None, "", error.code, str(error))
        try:
            for chunk in audio:
                pcm += chunk
        except UndecodableError as error:
            return Heard(bytes(pcm), audio.total_s, audio.duration_s, "", error.code, str(error))
        finally:
            audio.close()
        return Heard(bytes(pcm), audio.total_s, audio.duration_s, audio.damage)

    def status(self, field: str) -> str:
        """A line of the process's /proc/PID/status."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(field))
