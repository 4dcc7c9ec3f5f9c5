"""Commands and addresses that are told of jobs, on a real daemon."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.children import is_dead
from tests.support.daemon import daemon
from tests.support.waiting import eventually
from tests.support.wav import tone


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return tone(tmp_path / "a.wav", 0.5)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


class Receiver:
    """What a server got, and what it answers next; 200 when nothing is said."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.url = ""


@contextmanager
def receiver() -> Iterator[Receiver]:
    here = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            here.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(here.answers.pop(0) if here.answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield here
        server.shutdown()
        thread.join()


def test_a_command_has_the_event_on_stdin_and_in_its_environment(wav: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = 'echo "$STTD_EVENT $STTD_JOB $STTD_SOURCE $STTD_OUTBOX ${STTD_CREDENTIAL_X-none}"'
    command = script(tmp_path / "told", f"(cat; echo; {told}) > {out}.new; mv {out}.new {out}")
    with daemon(notify={"exec": [command]}) as sttd:
        sttd.start(env={"STTD_CREDENTIAL_X": "secret"})
        sttd.drop("a.wav", wav)
        eventually(out.exists)
        first, second = out.read_text().splitlines()
        event = json.loads(first)
        assert event == sttd.until("job.succeeded")
        assert second == f"job.succeeded {event['job']} a.wav {sttd.state}/outbox none"


def test_a_command_that_hangs_is_killed_with_all_it_started_and_delays_no_job(
    wav: Path, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    command = script(tmp_path / "hang", f"sleep 600 & echo $! >> {pids}; wait")
    lines = {"exec": [command], "timeout": "300ms", "retries": 0, "concurrency": 1}
    with daemon(notify=lines) as sttd:
        sttd.start()
        for number in range(3):
            sttd.drop(f"{number}.wav", wav)
        for number in range(3):
            assert sttd.transcript(str(number))
        failed = sttd.until("notify.failed", 3)
        assert "took longer than 0.3 s" in failed["message"]
        assert {e["job"] for e in sttd.events("notify.failed")} == {
            e["job"] for e in sttd.events("job.succeeded")
        }
        for pid in pids.read_text().split():
            eventually(partial(is_dead, int(pid)), "all it started is gone")


def test_a_command_that_fails_is_tried_again_and_given_up_with_what_it_said(
    wav: Path, tmp_path: Path
) -> None:
    tries = tmp_path / "tries"
    command = script(tmp_path / "fail", f"echo x >> {tries}; echo no such room >&2; exit 7")
    with daemon(notify={"exec": [command], "retries": 1}) as sttd:
        sttd.start()
        sttd.drop("a.wav", wav)
        failed = sttd.until("notify.failed")
        assert failed["message"] == (
            "job.succeeded by [notify] exec: exit code 7: no such room (2 tries)"
        )
        assert failed["job"] == sttd.until("job.succeeded")["job"]
        assert tries.read_text() == "x\nx\n"


def test_a_command_that_is_not_there_is_told_and_harms_nothing(wav: Path) -> None:
    with daemon(notify={"exec": ["/nonexistent/told"], "retries": 0}) as sttd:
        sttd.start()
        sttd.drop("a.wav", wav)
        assert "cannot be started" in sttd.until("notify.failed")["message"]
        assert sttd.stop() == 0


def test_an_address_gets_finished_and_failed_jobs_and_is_tried_again(wav: Path) -> None:
    with receiver() as here, daemon(notify={"url": here.url}) as sttd:
        here.answers = [503]
        sttd.start()
        sttd.drop("good.wav", wav)
        eventually(lambda: len(here.got) == 2, "it is posted again")
        assert here.got[0] == here.got[1] == sttd.until("job.succeeded")
        sttd.drop("bad.wav", wav, {"options": {"raise": "audio"}})
        eventually(lambda: len(here.got) == 3)
        assert here.got[2] == sttd.until("job.failed")
        assert not sttd.events("notify.failed")


def test_an_address_that_refuses_is_not_tried_again(wav: Path) -> None:
    with receiver() as here, daemon(notify={"url": here.url}) as sttd:
        here.answers = [404]
        sttd.start()
        sttd.drop("a.wav", wav)
        assert "HTTP 404" in sttd.until("notify.failed")["message"]
        assert len(here.got) == 1


def test_a_reload_turns_notifications_on_and_the_daemons_end_delivers_what_waits(
    wav: Path,
) -> None:
    with receiver() as here, daemon() as sttd:
        sttd.start()
        events = ["job.accepted", "daemon.stopped"]
        sttd.configure(notify={"url": here.url, "events": events, "concurrency": 1})
        assert sttd.ctl("reload").returncode == 0
        sttd.drop("a.wav", wav)
        sttd.transcript("a")
        assert sttd.stop() == 0
        assert [e["event"] for e in here.got] == events


def test_what_is_told_before_anybody_can_listen_is_in_the_history_and_notified(
    tmp_path: Path,
) -> None:
    events = ["daemon.started", "config.warning"]
    with receiver() as here, daemon(notify={"events": events, "concurrency": 1}) as sttd:
        sttd.start(env={"STTD_NOTIFY__URL": here.url, "STTD_NO_SUCH_KEY": str(tmp_path)})
        eventually(lambda: len(here.got) >= 2)
        assert [e["event"] for e in here.got] == events
        kept = [json.loads(line) for line in sttd.ctl("events", "--json").stdout.splitlines()]
        assert [e["event"] for e in kept][:2] == events
        assert [e["timestamp"] for e in kept][:2] == [e["timestamp"] for e in sttd.events(*events)]
        assert "STTD_NO_SUCH_KEY" in kept[1]["message"]


def notifiers(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if is_notifier(child)]


def is_notifier(child: psutil.Process) -> bool:
    try:
        return child.cmdline()[-1:] == ["sttd.notifier"]
    except psutil.NoSuchProcess:
        return False


def test_a_notifier_that_dies_is_followed_by_another(wav: Path) -> None:
    with receiver() as here, daemon(notify={"url": here.url}) as sttd:
        sttd.start()
        eventually(lambda: notifiers(sttd.pid))
        os.kill(notifiers(sttd.pid)[0].pid, signal.SIGKILL)
        assert "signal 9" in sttd.until("notify.failed")["message"]
        sttd.drop("a.wav", wav)
        eventually(lambda: here.got)


def test_a_killed_daemon_leaves_neither_notifier_nor_command(wav: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = script(tmp_path / "hang", f"echo $$ > {pids}.new; mv {pids}.new {pids}; sleep 600")
    with daemon(notify={"exec": [command], "events": ["job.accepted"]}) as sttd:
        sttd.start()
        sttd.drop("a.wav", wav)
        eventually(pids.exists)
        left = [int(pids.read_text()), notifiers(sttd.pid)[0].pid]
        sttd.kill()
        for pid in left:
            eventually(partial(is_dead, pid), f"{pid} is gone")
