"""Events on their way to the notifier, a process of its own (`sttd.notifier`): kept, fed, ended.

Never waits: what neither the pipe nor a bounded queue takes is dropped, counted and told once.
Knows nothing of commands and addresses but hands their configuration on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from typing import Self

import msgspec

from sttd.config import Settings
from sttd.credentials import without_credentials
from sttd.log import Log
from sttd.supervisor.child import Child
from sttd.supervisor.templates import Output

MOST_WAITING = 1 << 20  # bytes beside what the pipe and the notifier hold
AGAIN_S = 1.0  # between the end of a notifier and the start of the next
LAST_S = 5.0  # what is under way at the daemon's end may take so long
END = b"end\n"  # as the notifier knows it


class Notifications:
    """Listens to the log; has a notifier as long as `[notify]` names a command or an address."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self.dropped = 0
        self._log = log
        self._events: frozenset[str] = frozenset()
        self._order = b""
        self._current: _Process | None = None
        self._living: set[_Process] = set()  # those that finish under older settings, too
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._told = False
        self._closing = False
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take other settings, also later; a notifier with the old ones finishes by itself."""
        notify = settings.notify
        wanted = bool(notify.exec or notify.url)
        self._events = frozenset(notify.events if wanted else ())
        order = {**msgspec.structs.asdict(notify), "outbox": str(settings.outbox_dir)}
        encoded = msgspec.json.encode(order) + b"\n" if wanted else b""
        if encoded == self._order:
            return
        self._order = encoded
        if self._current is not None:
            self._current.finish()
            self._current = None
        self._waiting.clear()
        self._size = 0
        self._start()

    def heard(self, name: str, record: Mapping[str, object]) -> None:
        """An event was told: hand it on if it is wanted and there is room."""
        if name not in self._events or self._closing:
            return
        line = msgspec.json.encode(record) + b"\n"
        if self._size + len(line) > MOST_WAITING:
            self.dropped += 1
            if not self._told:
                self._told = True
                self._log.event(
                    "notify.dropped",
                    message=f"commands or addresses of [notify] are too slow for {name}",
                )
            return
        self._waiting.append(line)
        self._size += len(line)
        self._flush()

    async def __aenter__(self) -> Self:
        """Listen from now on."""
        self._log.listen(self.heard)
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Give what is under way a moment, then end the notifier and what it runs."""
        self._closing = True
        if self._current is not None:
            self._current.finish()
            self._current = None
        for number, patience_s in ((signal.SIGTERM, LAST_S), (signal.SIGKILL, AGAIN_S)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone(), patience_s)
            for process in self._living:
                process.child.send_signal(number)
        await self._all_gone()

    async def _all_gone(self) -> None:
        while self._living:
            await next(iter(self._living)).gone.wait()

    def _start(self) -> None:
        if self._order and self._current is None and not self._closing:
            self._current = _Process(self)
            self._current.rest = self._order
            self._living.add(self._current)
            self._flush()

    def _flush(self) -> None:
        if self._current is not None:
            self._current.flush()

    def next_line(self) -> bytes:
        """The next line to write, which is then the process's; empty when there is none."""
        if not self._waiting:
            self._told = False
            return b""
        line = self._waiting.popleft()
        self._size -= len(line)
        return line

    def said(self, line: str) -> None:
        """The notifier wrote a line: what it could not deliver."""
        try:
            told = msgspec.json.decode(line, type=dict[str, str | None])
            what = f"{told['event']} by [notify] {told['what']}: {told['message']}"
            more = {"job": told["job"]} if told["job"] else {}
        except (msgspec.DecodeError, KeyError):
            what, more = line, {}
        self._log.event("notify.failed", message=what, **more)

    def ended(self, process: _Process, how: str) -> None:
        """A notifier is gone; unless it was told to go, another one follows."""
        self._living.discard(process)
        if process is self._current:
            self._current = None
            self._log.event("notify.failed", message=f"the notifier {how}; started again")
            asyncio.get_running_loop().call_later(AGAIN_S, self._start)


class _Process:
    """One notifier and the pipe to it. `rest` is what it has not been given of the last line."""

    def __init__(self, owner: Notifications) -> None:
        self.rest = b""
        self.gone = asyncio.Event()
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._finishing = False
        reading, self._pipe = os.pipe()
        heard, saying = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sttd.notifier"],
                stdin=reading,
                stdout=saying,
                stderr=saying,
                env=without_credentials(os.environ),
                start_new_session=True,
            )
        finally:
            os.close(reading)
            os.close(saying)
        os.set_blocking(self._pipe, False)
        Output(heard, owner.said)
        self.child = Child(self._process.pid, self._exited)

    def flush(self) -> None:
        """Write what the pipe takes; the rest when it takes more."""
        while self._pipe >= 0:
            if not self.rest:
                self.rest = b"" if self._finishing else self._owner.next_line()
            if not self.rest:
                self._loop.remove_writer(self._pipe)
                if self._finishing:
                    self._shut()
                return
            try:
                self.rest = self.rest[os.write(self._pipe, self.rest) :]
            except BlockingIOError:
                self._loop.add_writer(self._pipe, self.flush)
                return
            except BrokenPipeError:
                self._shut()  # that it is gone is told in a moment

    def finish(self) -> None:
        """Let it deliver what it has been given, and leave."""
        if not self._finishing and self._pipe >= 0:
            while line := self._owner.next_line():
                self.rest += line
            self.rest += END
            self._finishing = True
            self.flush()

    def _shut(self) -> None:
        if self._pipe >= 0:
            self._loop.remove_writer(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def _exited(self, code: int | None, number: int | None) -> None:
        self._process.returncode = code if code is not None else -(number or 0)
        self._shut()
        self.gone.set()
        self._owner.ended(self, f"died by signal {number}" if number else f"left with code {code}")
