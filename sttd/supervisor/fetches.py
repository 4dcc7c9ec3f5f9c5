"""Recordings fetched by their address: one helper process each, few at once.

The daemon itself opens no connection and reads none of what comes. What could not be fetched is
remembered for a while, so that a bad address is not hammered. On every way but success nothing is
left of the file. Knows nothing of jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from sttd.config import Settings
from sttd.supervisor.child import Child
from sttd.wire.codes import Code
from sttd.wire.fetching import Outcome, Wish

COMMAND = (sys.executable, "-m", "sttd.worker.fetch")
MAX_AT_ONCE = 4
MAX_WAITING = 16  # beyond those that are being fetched
MAX_REMEMBERED = 1024
GRACE_S = 10.0  # after the deadline the helper is killed: it may hang in a name look-up
# What the helper needs of the environment; never a credential.
PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR")
# What may be otherwise a moment later, or is our own trouble, is not held against an address.
FORGIVEN = frozenset({Code.ENVIRONMENT, Code.BUSY, Code.DISABLED})

CODES = {code.value: code for code in Code}


class FetchError(Exception):
    """It was not fetched; `code` says whose fault it is."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Fetches:
    """All fetches; files are made by `new_path`. `settings` may be changed by a reload."""

    def __init__(
        self, settings: Settings, new_path: Callable[[], Path], command: Sequence[str] = COMMAND
    ) -> None:
        self.settings = settings
        self._new_path = new_path
        self._command = command
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._under_way = 0
        self._failed: OrderedDict[str, tuple[float, FetchError]] = OrderedDict()

    async def fetch(self, url: str) -> Path:
        """The whole recording in a file of its own, which is the caller's; raises FetchError."""
        if not self.settings.url.enabled:
            raise FetchError(Code.DISABLED, "jobs by URL are not enabled")
        self._refuse_remembered(url)
        if self._under_way >= MAX_AT_ONCE + MAX_WAITING:
            raise FetchError(Code.BUSY, f"{self._under_way} recordings are being fetched")
        self._under_way += 1
        try:
            async with self._places:
                self._refuse_remembered(url)  # it may have failed for another while this waited
                return await self._fetch(url)
        except FetchError as error:
            self._remember(url, error)
            raise
        finally:
            self._under_way -= 1

    async def _fetch(self, url: str) -> Path:
        path = self._new_path()
        try:
            _check(await self._run(self._wish(url), path))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _wish(self, url: str) -> Wish:
        settings = self.settings
        return Wish(
            url=url,
            allow_hosts=settings.url.allow_hosts,
            max_bytes=settings.limits.max_file_size,
            keep_free=settings.limits.min_free_disk,
            timeout_s=settings.url.timeout,
            supervisor=os.getpid(),
        )

    async def _run(self, wish: Wish, path: Path) -> Outcome:
        """Start the helper and wait for it; it is killed when it outlives its deadline."""
        ended = asyncio.Event()
        try:
            process = self._start(wish, path)
        except OSError as error:
            raise FetchError(Code.ENVIRONMENT, f"cannot fetch: {error.strerror}") from error
        Child(process.pid, lambda code, number: _end(process, ended, code, number))
        assert process.stderr is not None
        with process.stderr as said:
            try:
                async with asyncio.timeout(wish.timeout_s + GRACE_S):
                    await ended.wait()
            except BaseException as error:
                process.kill()
                await ended.wait()
                if isinstance(error, TimeoutError):
                    raise FetchError(Code.UNAVAILABLE, "it took too long") from error
                raise
            return _outcome(said.read(1 << 16), process.returncode)

    def _start(self, wish: Wish, path: Path) -> subprocess.Popen[bytes]:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.PIPE,
                env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
                start_new_session=True,
            )
        finally:
            os.close(file)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(msgspec.json.encode(wish))  # a few KiB: a pipe takes 64
        return process

    # -- failures ------------------------------------------------------------------------------
    def _refuse_remembered(self, url: str) -> None:
        until, error = self._failed.get(url, (0.0, None))
        if error is not None and _now() < until:
            raise FetchError(error.code, f"{error} (remembered for {until - _now():.0f} s more)")
        self._failed.pop(url, None)

    def _remember(self, url: str, error: FetchError) -> None:
        keep_s = self.settings.url.remember_failures
        if error.code not in FORGIVEN and url not in self._failed and keep_s > 0:
            self._failed[url] = (_now() + keep_s, error)
            while len(self._failed) > MAX_REMEMBERED:
                self._failed.popitem(last=False)


def _check(outcome: Outcome) -> None:
    if outcome.code is not None:
        raise FetchError(CODES.get(outcome.code, Code.INTERNAL), outcome.message)


def name_of(url: str) -> str:
    """What a recording from there is called: the last part of the path."""
    return unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2] or "recording"


def _end(
    process: subprocess.Popen[bytes], ended: asyncio.Event, code: int | None, number: int | None
) -> None:
    process.returncode = code if code is not None else -(number or 0)
    ended.set()


def _outcome(said: bytes, returncode: int) -> Outcome:
    lines = said.splitlines()
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, IndexError):
        return msgspec.json.decode(lines[-1], type=Outcome)
    last = lines[-1].decode(errors="replace") if lines else "it said nothing"
    return Outcome(code=Code.INTERNAL, message=f"the helper ended with {returncode}: {last}")


def _now() -> float:
    return asyncio.get_running_loop().time()
