"""The Speech SDK's own log of one job, on request: collected, cleaned of secrets, bounded.

The SDK logs for the whole process, and a worker has one job at a time, so what it says from `open`
to `close` is the job's. It writes into a ring in memory; a thread takes the lines from there, so
that they reach the file while the job's own thread hangs inside the SDK, and reach it clean. (The
SDK's file logger knows no bound and asks nobody; its event logger crashes at a process's end, both
tried with 1.53.) Wakes only for jobs that ask for a log.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from collections.abc import Iterator

from azure.cognitiveservices.speech.diagnostics.logging import MemoryLogger
from azure.cognitiveservices.speech.interop import LogLevel, _call_string_function, _sdk_lib

LARGEST = 4 << 20  # bytes of one file; the one before it is kept beside it, so twice that in all
BEFORE = ".1"  # its suffix
COLLECT_EVERY_S = 0.1  # the ring has 10,000 lines, minutes of a session at its busiest
HIDDEN = "(hidden)"
SHORTEST_SECRET = 6  # characters; hiding shorter ones would make the log unreadable

# SDK 1.53 logs none of these (tests/engines/test_azure_sdk_log.py); a later one may.
_SECRETIVE = re.compile(
    r"(?i)\b(authorization|proxy-authorization|ocp-apim-subscription-key|subscriptionkey"
    r"|access_token|refresh_token|client_secret|password|sig)(['\"]?\s*[:=]\s*)"
    r"('[^']*'|\"[^\"]*\"|(?:(?:bearer|basic|aad\S*)\s+)?[^\s,;&'\"]+)"
)
_GET_LINE = _sdk_lib.diagnostics_log_memory_get_line
_TOKEN = re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?")  # a JSON web token


class Scrubber:
    """Takes secrets out of lines: those it was told of, and what looks like one."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()

    def hide(self, secret: str) -> None:
        """From now on this must not be seen, nor the token behind aad#resource#."""
        found = {*self._secrets, secret, secret.rpartition("#")[2]}
        kept = (one for one in found if len(one) >= SHORTEST_SECRET)
        # the longest first: one may be a part of another
        self._secrets = tuple(sorted(kept, key=len, reverse=True))

    def clean(self, line: str) -> str:
        """The line without them."""
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        line = _TOKEN.sub(HIDDEN, line)
        return _SECRETIVE.sub(lambda found: f"{found[1]}{found[2]}{HIDDEN}", line)


class BoundedFile:
    """Appends to `path`; when that is full it becomes `path`.1, and a new one begins."""

    def __init__(self, path: str, largest: int = LARGEST) -> None:
        self._path = path
        self._largest = largest
        self._fd = self._open()

    def write(self, data: bytes) -> None:
        """Raises OSError when the disk will not take it."""
        if os.fstat(self._fd).st_size + len(data) > self._largest:
            os.close(self._fd)
            os.replace(self._path, self._path + BEFORE)
            self._fd = self._open()
        view = memoryview(data)[: self._largest]
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        """Safe to call once."""
        os.close(self._fd)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)


class SdkLog:
    """One job's log, from its making until `close`. A disk that is full ends it, not the job."""

    def __init__(self, path: str, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._over = threading.Event()
        self._file = BoundedFile(path)
        MemoryLogger.set_level(LogLevel.Info)
        MemoryLogger.start()
        self._next = _newest()
        self._thread = threading.Thread(target=self._collect, name="azure-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the last lines and stop."""
        MemoryLogger.stop()
        self._over.set()
        self._thread.join()
        self._file.close()

    def _collect(self) -> None:
        with contextlib.suppress(Exception):  # whatever it is: a log fails no job
            while not self._over.wait(COLLECT_EVERY_S):
                self._take()
            self._take()

    def _take(self) -> None:
        text = "".join(map(self._scrubber.clean, self._lines()))
        if text:
            self._file.write(text.encode("utf-8", "backslashreplace"))

    def _lines(self) -> Iterator[str]:
        """What was logged since the last time; what the ring has lost meanwhile is counted."""
        oldest, newest = _oldest(), _newest()
        if oldest > self._next:
            yield f"... {oldest - self._next} lines were lost ...\n"
            self._next = oldest
        for number in range(self._next, newest):
            line: str = _call_string_function(ctypes.c_int(number), fn=_GET_LINE)
            yield line if line.endswith("\n") else f"{line}\n"
        self._next = max(self._next, newest)


def _oldest() -> int:
    return int(_sdk_lib.diagnostics_log_memory_get_line_num_oldest())


def _newest() -> int:
    return int(_sdk_lib.diagnostics_log_memory_get_line_num_newest())


@contextlib.contextmanager
def logged(path: str, scrubber: Scrubber) -> Iterator[None]:
    """Keep the SDK's log in `path` meanwhile; "": none was asked for."""
    if not path:
        yield
        return
    try:
        log = SdkLog(path, scrubber)
    except OSError:  # no room for it; the transcript matters more
        yield
        return
    try:
        yield
    finally:
        log.close()
