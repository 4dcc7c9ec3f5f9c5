"""What the log writes, and to whom it tells the same."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import pytest

from sttd.events import EVENTS
from sttd.log import LONGEST_TEXT, MOST_ITEMS, Log, instant

NOON = 1_769_860_800_123_456_789  # 2026-01-31T12:00:00.123Z


class Told(Log):
    """A log into memory, at noon."""

    def __init__(self, **more: Any) -> None:
        self.text = io.StringIO()
        super().__init__(self.text, clock=lambda: NOON, environ={}, **more)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.getvalue().splitlines()]


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "log").open("w") as file:
        yield file


def journal(stream: TextIO) -> dict[str, str]:
    status = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


# -- a line -------------------------------------------------------------------------------------
def test_an_event_is_one_json_object_on_one_line_with_the_fixed_keys_first() -> None:
    log = Told()
    log.event("worker.ready", worker="w-17", pid=4711, ready_s=0.0021)
    assert log.text.getvalue() == (
        '{"timestamp":"2026-01-31T12:00:00.123Z","level":"info","event":"worker.ready",'
        '"worker":"w-17","pid":4711,"ready_s":0.0021}\n'
    )


def test_hostile_names_stay_on_their_line_and_are_valid_json() -> None:
    log = Told()
    names = [
        "a\nb.wav",
        "\udcff\udc8a.wav",
        "\ud800.wav",
        '"}{',
        "\x1b[31m",
        "\x9b31m日本",
        "\u2028",
    ]
    for name in names:
        log.event("job.cancelled", job="j", source=name)
    assert log.text.getvalue().count("\n") == len(names)
    assert [line["source"] for line in log.lines][:3] == [
        "a\nb.wav",
        "\\xff\\x8a.wav",
        "\\ud800.wav",
    ]
    assert log.lines[-1]["source"] == "\u2028"  # and \x9b, which terminals obey, is escaped too
    assert "\x9b" not in log.text.getvalue()


def test_values_of_any_kind_become_json() -> None:
    record = Told(strict=False).event(
        "x",
        number=signal.SIGKILL,
        path=Path("/a"),
        error=OSError(2, "gone"),
        nothing=None,
        nan=float("nan"),
        inner={"a": (1, {2})},
        raw=b"x",
    )
    assert {key: record[key] for key in record if key not in ("timestamp", "level", "event")} == {
        "number": 9,
        "path": "/a",
        "error": "[Errno 2] gone",
        "nothing": None,
        "nan": None,
        "inner": {"a": [1, [2]]},
        "raw": "b'x'",
    }


def test_nothing_endless_is_logged() -> None:
    log = Told()
    record = log.event("job.succeeded", job="x" * 10**6, outputs=["y"] * 1000)
    assert len(str(record["job"])) < LONGEST_TEXT + 100
    assert str(record["job"]).endswith("(1000000 characters)")
    assert record["outputs"] == ["y"] * MOST_ITEMS


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_of_the_catalogue_can_be_told_with_all_its_fields(name: str) -> None:
    log = Told(level="debug")
    fields = dict.fromkeys(EVENTS[name].fields, "x")
    log.event(name, **fields)
    (line,) = log.lines
    assert line == {"timestamp": line["timestamp"], "level": line["level"], "event": name, **fields}


def test_moments_are_utc_with_milliseconds() -> None:
    assert instant(NOON) == "2026-01-31T12:00:00.123Z"
    assert instant(0) == "1970-01-01T00:00:00.000Z"
    assert instant(999_999) == "1970-01-01T00:00:00.000Z"


# -- the catalogue ------------------------------------------------------------------------------
def test_an_event_that_is_not_in_the_catalogue_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match=r"worker\.reddy is not in the catalogue"):
        Told().event("worker.reddy")
    with pytest.raises(AssertionError, match=r"worker\.ready has no field colour"):
        Told().event("worker.ready", colour="red")


def test_a_mistake_of_ours_is_logged_all_the_same_when_nobody_watches() -> None:
    log = Told(strict=False)
    log.event("worker.reddy", colour="red")
    assert log.lines[0] | {"timestamp": ""} == {
        "timestamp": "",
        "level": "warning",
        "event": "worker.reddy",
        "colour": "red",
    }


# -- levels and listeners -----------------------------------------------------------------------
def test_listeners_get_the_very_record_whatever_the_level_of_the_log() -> None:
    heard: list[tuple[str, Mapping[str, object]]] = []
    log = Told(level="error", publish=lambda name, record: heard.append((name, record)))
    log.listen(lambda name, record: heard.append((name, record)))
    record = log.event("job.started", job="j", source="a\udcff.wav", attempt=1, worker="w-1")
    assert heard == [("job.started", record)] * 2
    assert record["source"] == "a\\xff.wav"
    assert log.text.getvalue() == ""


def test_what_was_held_reaches_each_that_listens_later_once_and_in_order() -> None:
    log = Told()
    log.event("config.warning", where="", key="a", message="nobody holds it yet")
    log.hold()
    log.event("daemon.started", pid=1)
    heard: list[list[str]] = [[], []]
    log.listen(lambda name, _record: heard[0].append(name))
    log.event("daemon.ready", pid=1)
    log.listen(lambda name, _record: heard[1].append(name))
    log.let_go()
    log.event("daemon.drained")
    late: list[str] = []
    log.listen(lambda name, _record: late.append(name))
    assert heard == [["daemon.started", "daemon.ready", "daemon.drained"]] * 2
    assert late == []


@pytest.mark.parametrize(
    ("level", "written"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)]
)
def test_the_level_bounds_what_is_written(level: Any, written: int) -> None:
    log = Told(level=level)
    log.event("job.progress", job="j")
    log.event("job.started", job="j")
    log.event("job.deferred", job="j")
    assert len(log.lines) == written


def test_a_reload_changes_level_and_format() -> None:
    log = Told(level="error")
    log.configure("console", "debug")
    log.event("job.progress", job="j", source="a.wav")
    (line,) = log.text.getvalue().splitlines()
    assert line.split() == [
        "2026-01-31T12:00:00.123Z", "[debug", "]", "job.progress", "job=j", "source=a.wav",
    ]  # fmt: skip


def test_the_console_shows_hostile_names_harmlessly() -> None:
    log = Told(format="console")
    log.event("job.cancelled", job="j", source="\x1b]0;x\x07\n.wav")
    assert log.text.getvalue().count("\n") == 1
    assert "\x1b" not in log.text.getvalue()


# -- where lines go -----------------------------------------------------------------------------
def written(stream: TextIO) -> str:
    return Path(stream.name).read_text()


def test_lines_for_the_journal_have_a_priority(stream: TextIO) -> None:
    log = Log(stream, environ=journal(stream), level="debug")
    for name in ("job.progress", "job.started", "job.deferred", "job.failed"):
        log.event(name)
    assert [line[:4] for line in written(stream).splitlines()] == ["<7>{", "<6>{", "<4>{", "<3>{"]


def test_lines_that_go_elsewhere_have_none_although_the_variable_is_set(
    stream: TextIO, tmp_path: Path
) -> None:
    with (tmp_path / "other").open("w") as other:
        log = Log(stream, environ=journal(other))
    log.event("job.started")
    assert written(stream).startswith("{")


def test_a_terminal_gets_readable_lines_and_others_json(stream: TextIO) -> None:
    Log(stream, environ={}).event("job.started")
    json.loads(written(stream))
    master, slave = pty.openpty()
    with open(slave, "w") as terminal:
        Log(terminal, environ={}).event("job.started", job="j")
        Log(terminal, environ={"NO_COLOR": "1"}).event("job.started", job="j")
        shown = b""
        while shown.count(b"\n") < 2:  # a terminal hands on what it has, in parts
            shown += os.read(master, 4096)
        coloured, plain = shown.decode().splitlines()
    os.close(master)
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain
    assert "job=j" in plain


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    with open("/dev/full", "w") as full:
        log = Log(full, environ={})
        log.event("job.started")
        assert log.lost == 1
    log.event("job.started")  # the stream is closed by now
    assert log.lost == 2


def test_a_reader_that_went_away_stops_nobody() -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as stream:
        log = Log(stream, environ={})
        os.close(reader)
        log.event("job.started")
        assert log.lost == 1


def test_a_line_after_a_torn_one_begins_anew() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(writer, "w") as stream:
        log = Log(stream, environ={}, format="json")
        while not log.lost:
            log.event("job.failed", message="x" * 4000, job="j")
        received = os.read(reader, 1 << 20)
        log.event("job.started", job="last")
        received += os.read(reader, 1 << 20)
    os.close(reader)
    assert json.loads(received.splitlines()[-1])["job"] == "last"
    for line in received.splitlines()[:-2]:
        json.loads(line)


# -- neighbours ---------------------------------------------------------------------------------
def test_what_libraries_log_becomes_an_event() -> None:
    root = logging.getLogger()
    handlers = root.handlers[:]
    log = Told()
    try:
        log.adopt_logging()
        try:
            raise ValueError("oh")  # noqa: TRY301 (a traceback is wanted)
        except ValueError:
            logging.getLogger("asyncio").exception("%s was never retrieved", "it")
        logging.getLogger("x").info("not this")
    finally:
        root.handlers[:] = handlers
    (line,) = log.lines
    assert (line["event"], line["level"]) == ("library.message", "warning")
    assert (line["logger"], line["message"]) == ("asyncio", "it was never retrieved")
    assert "ValueError: oh" in str(line["trace"])


def test_the_log_does_not_load_rich_and_leaves_it_usable() -> None:
    code = (
        "import sys, sttd.log\n"
        "assert 'rich' not in sys.modules and 'pygments' not in sys.modules\n"
        "import rich\n"
        "assert rich is sys.modules['rich']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_rich_that_is_loaded_already_stays() -> None:
    code = "import sys, rich, sttd.log\nassert sys.modules['rich'] is rich\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
