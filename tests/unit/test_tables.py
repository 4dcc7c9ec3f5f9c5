"""Tables on terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sttd.ctl.pace import Pace
from sttd.ctl.tables import Column, Fitted
from sttd.ctl.topview import Picture, frame
from sttd.wire import views

ROWS = (
    ("w-13", "busy", "12345", "43 MiB", ("3 min 20 s ago", "3 min 20 s"), "tp1.wav"),
    ("w-4711", "standby", "9", "1.5 GiB", ("1 d 2 h ago", "1 d 2 h"), "a much longer name.wav"),
)


def table() -> Fitted:
    found = Fitted(
        Column(title="worker"),
        Column(title="state"),
        Column(title="pid", right=True),
        Column(title="rss", right=True),
        Column(title="ended"),
        Column(title="name", least=8),
        narrowing=("~ended", "pid", "ended"),
    )
    for row in ROWS:
        found.add(*row)
    return found


def printed(width: int, what: object) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, markup=False).print(what)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 120])
def test_a_narrow_terminal_costs_whole_columns_and_never_the_end_of_a_number(width: int) -> None:
    text = printed(width, table())
    assert all(len(line) <= width for line in text.splitlines())
    for row in ROWS:
        for shown in (row[0], row[1], row[3]):
            assert shown in text
    assert ("12345" in text) == ("PID" in text)
    assert ("no room for pid" in text) == ("PID" not in text)


def test_where_there_is_room_for_all_everything_is_shown_and_nothing_is_said_of_room() -> None:
    text = printed(200, table())
    assert all(str(cell) in text for row in ROWS for cell in (*row[:4], row[4][0], row[5]))
    assert "no room" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_short_variants_come_before_a_column_goes() -> None:
    text = printed(55, table())
    assert "12345" in text
    assert "3 min 20 s" in text
    assert "ago" not in text


def test_a_text_that_may_be_folded_is_folded_and_nothing_of_it_is_lost() -> None:
    text = printed(40, table())
    name = text[text.index("w-4711") :].replace("no room", "\n")
    assert "longer" in name
    assert "a much" in name


@pytest.mark.parametrize("width", [50, 80, 100, 140])
def test_top_shows_worker_state_and_memory_whole_on_every_terminal(width: int) -> None:
    worker = views.WorkerView(
        id="w-4711", pid=901, state="standby", requests=3, rss_bytes=72 << 20,
        peak_rss_bytes=80 << 20, pss_bytes=0, threads=4, fds=12, age_s=43215.0, job="j1",
    )  # fmt: skip
    status = views.StatusView(
        daemon=views.DaemonView(pid=1, version="1", state="running", uptime_s=1.0, rss_bytes=1),
        pool=views.PoolView(configured=2, workers=(worker,)),
        queue=views.QueueView(),
        recycles=views.RecyclesView(),
        engine=views.EngineView(name="drill", state="ok"),
    )
    going: dict[str, tuple[float | None, float | None]] = {"j1": (0.7, 5.6)}
    pace = Pace()
    pace.look(0.0, (), 0)
    picture = Picture(
        status=status, jobs={}, pace=pace, going=going, soft_bytes=128 << 20,
        ceiling_bytes=200 << 20, selected="w-4711",
    )  # fmt: skip
    text = printed(width, frame(picture))
    for shown in ("w-4711", "standby", "72 MiB"):
        assert shown in text
