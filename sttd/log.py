"""The log: one line per event of the catalogue, as JSON or for a terminal, through structlog.

One record is made for each event; the same record goes to the log and to every listener (the
PUB socket, the ledger), whatever the log's level. Nothing here decides what is worth an event,
and a log that cannot be written never stops the daemon.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TextIO

import msgspec

from sttd.events import EVENTS, Level


@contextlib.contextmanager
def _without_rich() -> Iterator[None]:
    """Hide rich while structlog is imported.

    structlog imports it when it is there, for tracebacks that we never print: 5 MiB of resident
    memory and 180 ms out of 6.8 MiB and 230 ms (structlog 26.1, Python 3.11).
    """
    known = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]  # None makes the import fail
    try:
        yield
    finally:
        if known is None:
            del sys.modules["rich"]
        else:
            sys.modules["rich"] = known


with _without_rich():
    import structlog

Record = Mapping[str, object]
Listener = Callable[[str, Record], None]
Format = Literal["json", "console", "auto"]

MOST_HELD = 1000  # records, for listeners that are still to come
LONGEST_TEXT = 4096  # characters of one field; what an engine says may be endless
MOST_ITEMS = 100

_PLAIN = (int, bool, type(None))

# What JSON may hold as it is, and terminals obey (C1) or line readers stop at.
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}

# syslog(3) levels, as sd-daemon(3) puts them in front of a line.
PRIORITIES: dict[Level, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3}


class Log:
    """Writes events to a stream and tells them to listeners.

    With `strict`, an event or a field that is not in the catalogue is an AssertionError;
    without it (`python -O`) it is logged as it is.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        format: Format = "auto",  # noqa: A002 (the key's name)
        level: Level = "info",
        publish: Listener | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], int] = time.time_ns,
        strict: bool = __debug__,
    ) -> None:
        self._lines = _Lines(stream, environ)
        self._stream = stream
        self._environ = environ
        self._listeners: list[Listener] = [publish] if publish else []
        self._held: list[tuple[str, Record]] = []
        self._holding = False
        self._clock = clock
        self._strict = strict
        self.configure(format, level)

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._lines.lost

    def configure(self, format: Format, level: Level) -> None:  # noqa: A002 (the key's name)
        """Take another format and level, also later (a reload)."""
        if format == "auto":
            format = "console" if self._stream.isatty() else "json"  # noqa: A001 (as above)
        renderer: Any = _json
        if format == "console":
            plain = bool(self._environ.get("NO_COLOR")) or not self._stream.isatty()
            renderer = structlog.dev.ConsoleRenderer(colors=not plain, sort_keys=False)
        lazy = structlog.wrap_logger(
            self._lines,
            processors=[renderer],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            context_class=dict,
        )
        self._write = {name: getattr(lazy.bind(), name) for name in PRIORITIES}

    def hold(self) -> None:
        """Keep what is told from now on for those who will listen, until `let_go`."""
        self._holding = True

    def let_go(self) -> None:
        """Everybody listens: what was held is no longer needed."""
        self._holding = False
        self._held.clear()

    def listen(self, listener: Listener) -> None:
        """Hand every record to `listener` too: those held so far, and from now on all."""
        for name, record in self._held:  # and what is told meanwhile
            listener(name, record)
        self._listeners.append(listener)

    def event(self, name: str, /, **fields: object) -> Record:
        """Log one event of the catalogue and tell the listeners; returns the record."""
        event = EVENTS.get(name)
        if self._strict:
            assert event is not None, f"{name} is not in the catalogue of events"
            unknown = fields.keys() - event.fields
            assert not unknown, f"{name} has no field {', '.join(sorted(unknown))}"
        level: Level = "warning" if event is None else event.level_of(fields)
        values = {key: clean(value) for key, value in fields.items()}
        head: dict[str, object] = {"timestamp": instant(self._clock()), "level": level}
        record = {**head, "event": name, **values}
        self._write[level](name, **head, **values)
        if self._holding and len(self._held) < MOST_HELD:
            self._held.append((name, record))
        for listener in self._listeners:
            listener(name, record)
        return record

    def adopt_logging(self) -> None:
        """Turn warnings and errors of Python's own logging (asyncio, libraries) into events."""
        import logging  # noqa: PLC0415 (asyncio and structlog have imported it anyway)

        log = self

        class Bridge(logging.Handler):
            """Hands on what libraries log."""

            def emit(self, record: logging.LogRecord) -> None:
                trace = (
                    logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
                )
                more = {"trace": trace} if trace else {}
                log.event(
                    "library.message", logger=record.name, message=record.getMessage(), **more
                )

        root = logging.getLogger()
        root.handlers[:] = [Bridge(logging.WARNING)]


def instant(nanoseconds: int) -> str:
    """A moment as events tell it: UTC, milliseconds, 2026-01-31T12:00:00.000Z."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return f"{moment.isoformat()[:19]}.{rest // 1_000_000:03d}Z"


def clean(value: object) -> object:
    r"""The value as JSON can have it: no surrogates (`\xNN`), nothing endless, no NaN."""
    if type(value) in _PLAIN:  # nearly everything: asked first, because it is cheap
        return value
    match value:
        case int():  # an IntEnum, such as a signal
            return int(value)
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(clean(str(key))): clean(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [clean(each) for each in list(value)[:MOST_ITEMS]]
        case _:
            return _printable(str(value))


def _printable(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}... ({len(text)} characters)"
    if text.isascii():
        return text
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def _json(_logger: object, _method: str, values: dict[str, object]) -> str:
    """The last step of structlog's chain: one JSON object, the fixed keys first."""
    head = {key: values.pop(key) for key in ("timestamp", "level", "event")}
    line = msgspec.json.encode({**head, **values}).decode()
    return line if line.isascii() else line.translate(_ESCAPES)


class _Lines:
    """Where structlog puts finished lines: whole, with a priority where journald reads them."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self.lost = 0
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._prefixed = _is_journal(self._descriptor, environ)
        self._torn = False

    def debug(self, line: str) -> None:
        """Write a line of this level; so do the others."""
        self._put("debug", line)

    def info(self, line: str) -> None:
        """See debug."""
        self._put("info", line)

    def warning(self, line: str) -> None:
        """See debug."""
        self._put("warning", line)

    def error(self, line: str) -> None:
        """See debug."""
        self._put("error", line)

    def _put(self, level: Level, line: str) -> None:
        prefix = f"<{PRIORITIES[level]}>" if self._prefixed else ""
        try:
            if self._descriptor is None:
                self._stream.write(f"{prefix}{line}\n")
            else:
                self._write(f"{prefix}{line}\n".encode("utf-8", "backslashreplace"))
        except (OSError, ValueError):  # a full disk, a reader that is gone, a closed stream
            self.lost += 1

    def _write(self, data: bytes) -> None:
        """One write(2) where the kernel takes it whole, so that children's lines do not mix in."""
        assert self._descriptor is not None
        if self._torn:
            data = b"\n" + data
        self._torn = False
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                self._torn = len(rest) < len(data)
                raise


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):  # a buffer in memory
        return None


def _is_journal(descriptor: int | None, environ: Mapping[str, str]) -> bool:
    """Whether journald reads it: $JOURNAL_STREAM is "device:inode", see systemd.exec(5)."""
    if descriptor is None or "JOURNAL_STREAM" not in environ:
        return False
    status = os.fstat(descriptor)
    return environ["JOURNAL_STREAM"] == f"{status.st_dev}:{status.st_ino}"
