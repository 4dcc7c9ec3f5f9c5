"""Takes a session's native objects down, completely and in the order that costs least.

Measured with SDK 1.53 (benchmarks/azure_cleanup.py): what may block are the destructor of the
transcriber after an error and the closing of a connection, so it all happens on a thread of its
own, with a limit. What is not done by then stays behind on that thread, and the worker's vital
signs (threads, descriptors, memory) say when it must leave.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import threading
from typing import Any

from sttd import linux
from sttd.engines.azure import native

CLOSE_LIMIT_S = 20.0


@dataclasses.dataclass
class Remains:
    """All that a session holds of the SDK's."""

    transcriber: Any = None
    connection: Any = None
    ticket: int = 0
    signals: list[Any] = dataclasses.field(default_factory=list)
    futures: list[Any] = dataclasses.field(default_factory=list)
    parts: list[Any] = dataclasses.field(default_factory=list)

    def resolve(self) -> None:
        """Wait for every future: an unresolved one leaks about 100 KB for good.

        Raises RuntimeError as the SDK, whose futures let go of their handle only after a success.
        """
        while self.futures:
            future = self.futures.pop()
            try:
                future.get()
            except RuntimeError:
                native.release(future)
                raise


def take_down(remains: Remains, limit_s: float = CLOSE_LIMIT_S) -> bool:
    """Disconnect, close, drop; whether all of it was done within the limit."""
    work = threading.Thread(target=_take_down, args=(remains,), name="azure-close", daemon=True)
    del remains  # the thread's alone from here on
    work.start()
    work.join(limit_s)
    return not work.is_alive()


def _take_down(remains: Remains) -> None:
    with contextlib.suppress(RuntimeError):  # an operation that failed says so once more
        remains.resolve()
    if remains.ticket:
        native.unlisten(remains.transcriber, remains.ticket)
    while remains.signals:
        remains.signals.pop().disconnect_all()
    if remains.connection is not None:
        with contextlib.suppress(RuntimeError):  # "might fail", says its documentation
            remains.connection.close()
    remains.connection = None
    remains.transcriber = None  # the last reference: the native destructor runs here
    while remains.parts:
        remains.parts.pop()  # youngest first: phrase list, audio configuration, stream


def tidy() -> None:
    """Give memory back to the system: Python's cycles, then malloc's free pages."""
    gc.collect()
    linux.malloc_trim()
