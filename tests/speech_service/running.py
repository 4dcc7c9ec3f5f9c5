"""Running the local Speech service: on a thread of the test's process, or in its own process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tests.speech_service.behaviour import Settings
from tests.speech_service.counters import Counters
from tests.speech_service.server import SpeechService


class Running:
    """A service on a thread. Its counters may be read from any thread."""

    def __init__(self, service: SpeechService, *, tls: ssl.SSLContext | None = None) -> None:
        self.service = service
        self._tls = tls
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="speech-service")
        service.changed = self._notify

    @property
    def host(self) -> str:
        """What SpeechConfig(host=...) wants."""
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.service.port}"

    @property
    def counters(self) -> Counters:
        """What the service has seen."""
        return self.service.counters

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._call(self.service.start(self._tls, self.service.port))

    def stop(self) -> None:
        """Drop all connections and the port."""
        self._call(self.service.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def restart(self) -> None:
        """Drop all connections and listen again on the same port, as after a deployment."""
        self.stop_listening()
        self.listen_again()

    def stop_listening(self) -> None:
        """Drop all connections; whoever tries again is refused."""
        self._call(self.service.close())

    def listen_again(self) -> None:
        """On the same port."""
        self._call(self.service.start(self._tls, self.service.port))

    def wait_until(self, true: Callable[[Counters], bool], timeout_s: float = 20.0) -> None:
        """Wait for the counters to say so. Raises AssertionError when they don't in time."""
        with self._changed:
            met = self._changed.wait_for(lambda: true(self.counters), timeout_s)
        assert met, f"not within {timeout_s} s: {self.counters}"

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)  # type: ignore[arg-type]


@contextlib.contextmanager
def running_service(
    service: SpeechService | None = None, *, tls: ssl.SSLContext | None = None
) -> Iterator[Running]:
    """A service for the length of a block."""
    running = Running(service or SpeechService(), tls=tls)
    running.start()
    try:
        yield running
    finally:
        running.stop()


class Separate:
    """A service in its own process, so that a benchmark measures the client alone."""

    def __init__(self, settings: Settings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.speech_service", msgspec.json.encode(settings).decode()],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.host = f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the service's process."""
        return self._process.pid

    def counters(self) -> Counters:
        """What the service has seen."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_counters") as answer:
            return msgspec.json.decode(answer.read(), type=Counters)

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # its end of life is our end of the pipe
        self._process.wait(10)
        self._process.stdout.close()


@contextlib.contextmanager
def separate_service(settings: Settings) -> Iterator[Separate]:
    """A service in its own process for the length of a block."""
    service = Separate(settings)
    try:
        yield service
    finally:
        service.stop()
