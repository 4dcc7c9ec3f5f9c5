"""sttctl as it is typed: a real process against a real control socket, its words and exit codes."""

from __future__ import annotations

import datetime as dt
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sttd.ctl import events, finding, human, moments
from sttd.ctl.main import VERBS
from sttd.wire import requests
from sttd.wire.views import EventView
from tests.support.control import Daemon, running
from tests.support.waiting import eventually

COMMAND = [sys.executable, "-W", "error", "-m", "sttd.ctl"]
PATIENCE_S = 60


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as daemon:
        yield daemon


def start(*args: str, **env: str) -> subprocess.Popen[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("STTD_")}
    return subprocess.Popen(
        [*COMMAND, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, **env},
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, error = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert "Traceback" not in error
    return process.returncode, out, error


def ctl(daemon: Daemon, *args: str) -> tuple[int, str, str]:
    return finished(start(*args, STTD_SOCKET=daemon.endpoint))


def told(daemon: Daemon, *args: str) -> object:
    """The JSON that a command which succeeds prints."""
    code, out, error = ctl(daemon, *args, "--json")
    assert (code, error) == (0, "")
    return json.loads(out)


def wav(folder: Path, name: str = "meeting.wav") -> str:
    (folder / name).write_bytes(b"RIFF and so on")
    return str(folder / name)


# -- JSON ---------------------------------------------------------------------------------------
def test_status_has_the_shape_of_the_contract(daemon: Daemon) -> None:
    status = told(daemon, "status")
    assert isinstance(status, dict)
    assert list(status) == ["daemon", "pool", "queue", "recycles", "engine", "sandbox"]
    assert list(status["daemon"]) == ["pid", "version", "state", "uptime_s", "rss_bytes", "reasons"]
    assert list(status["pool"]) == [
        "configured", "memory_control", "memory_control_detail", "workers",
    ]  # fmt: skip
    assert list(status["pool"]["workers"][0]) == [
        "id", "pid", "state", "requests", "rss_bytes", "peak_rss_bytes", "pss_bytes", "threads",
        "fds", "age_s", "job",
    ]  # fmt: skip
    assert list(status["queue"]) == [
        "queued", "deferred", "running", "succeeded", "failed", "cancelled", "oldest_queued_s",
    ]  # fmt: skip
    assert list(status["recycles"]) == [
        "max_requests", "rss_soft", "rss_ceiling", "predicted", "max_age", "stalled",
        "job_timeout", "crashed", "threads", "fds", "requested", "cancelled", "reloaded",
        "scaled", "shutdown",
    ]  # fmt: skip
    engine = {"name": "drill", "state": "ok", "detail": "", "sessions": 0, "max_sessions": 0}
    assert status["engine"] == engine


def test_verbs_about_jobs_print_jobs(daemon: Daemon) -> None:
    first, second = daemon.add("a.wav"), daemon.add("b.wav")
    daemon.finish(first, json=b"{}")
    daemon.publish("job.failed", job=second, code="crashed")
    daemon.fail(second)
    listed = told(daemon, "jobs")
    assert isinstance(listed, dict)
    assert [job["job"] for job in listed["jobs"]] == [second, first]
    shown = told(daemon, "show", second)
    assert isinstance(shown, dict)
    assert [event["event"] for event in shown["timeline"]] == ["job.failed"]
    assert shown["error"] == {"code": "undecodable", "message": "no audio in it"}
    retried = told(daemon, "retry", second)
    assert isinstance(retried, dict)
    assert retried["state"] == "queued"
    cancelled = told(daemon, "cancel", second)
    assert isinstance(cancelled, dict)
    assert cancelled["state"] == "cancelled"
    assert told(daemon, "retry", "--all-failed") == {"retried": 0}


def test_verbs_about_the_daemon_print_what_they_did(daemon: Daemon) -> None:
    assert told(daemon, "drain", "--wait") == {"state": "drained", "running": 0}
    assert told(daemon, "resume") == {"state": "running", "running": 0}
    assert told(daemon, "scale", "3") == {"configured": 3, "previous": 2}
    assert told(daemon, "recycle", "--all") == {"workers": ["w-17"]}
    assert told(daemon, "reload") == {
        "changed": ["pool.workers"],
        "needs_restart": ["engine.name"],
    }
    version = told(daemon, "version")
    assert isinstance(version, dict)
    assert (version["daemon"], version["protocol"]) == ("1.2", requests.PROTOCOL)
    workers = told(daemon, "workers")
    assert isinstance(workers, dict)
    assert [worker["id"] for worker in workers["workers"]] == ["w-17"]


def test_submit_prints_the_job_and_whether_it_was_known(daemon: Daemon, tmp_path: Path) -> None:
    path = wav(tmp_path)
    first = told(daemon, "submit", path, "--key", "k", "--language", "de-DE", "--language", "en-US",
                 "--priority", "3")  # fmt: skip
    second = told(daemon, "submit", path, "--key", "k")
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert first["job"] == second["job"]
    assert first["priority"] == 3
    assert daemon.options[first["job"]] == {"languages": ["de-DE", "en-US"]}


def test_several_submissions_print_a_line_each(daemon: Daemon, tmp_path: Path) -> None:
    code, out, _ = ctl(daemon, "submit", wav(tmp_path, "a.wav"), wav(tmp_path, "b.wav"), "--json")
    assert code == 0
    assert [json.loads(line)["source"]["name"] for line in out.splitlines()] == ["a.wav", "b.wav"]


# -- waiting ------------------------------------------------------------------------------------
def test_submit_waits_copies_the_outputs_and_says_when_one_failed(
    daemon: Daemon, tmp_path: Path
) -> None:
    out = tmp_path / "transcripts"
    process = start(
        "submit", wav(tmp_path, "good.wav"), wav(tmp_path, "bad.wav"), "--wait", "--out", str(out),
        STTD_SOCKET=daemon.endpoint,
    )  # fmt: skip
    eventually(lambda: any(isinstance(request, requests.Wait) for request in daemon.seen))
    good, bad = list(daemon.jobs)
    daemon.finish(good, txt=b"well said", json=b"{}")
    daemon.fail(bad)
    code, said, _ = finished(process)
    assert code == 1
    assert (out / "good.txt").read_bytes() == b"well said"
    assert sorted(os.listdir(out)) == ["good.json", "good.txt"]
    assert f"{bad}  failed  bad.wav  undecodable: no audio in it" in said


def test_out_alone_waits_too(daemon: Daemon, tmp_path: Path) -> None:
    process = start(
        "submit", wav(tmp_path), "--out", str(tmp_path / "t"), "--json",
        STTD_SOCKET=daemon.endpoint,
    )  # fmt: skip
    (job,) = eventually(lambda: list(daemon.jobs))
    daemon.finish(job, json=b"{}")
    code, out, _ = finished(process)
    assert code == 0
    found = json.loads(out)
    assert (found["state"], found["duplicate"]) == ("succeeded", False)
    assert (tmp_path / "t" / "meeting.json").read_bytes() == b"{}"


def test_wait_goes_on_through_a_restart_and_succeeds(daemon: Daemon) -> None:
    job = daemon.add()
    process = start("wait", job, "--json", STTD_SOCKET=daemon.endpoint)
    eventually(lambda: daemon.seen)
    daemon.restart()
    eventually(lambda: len(daemon.seen) > 1)
    daemon.finish(job)
    code, out, _ = finished(process)
    assert code == 0
    assert json.loads(out)["jobs"][0]["state"] == "succeeded"


@pytest.mark.parametrize(
    "args", [["wait", "JOB"], ["submit", "FILE", "--wait"], ["drain", "--wait"]], ids=" ".join
)
def test_time_that_runs_out_is_exit_5(daemon: Daemon, tmp_path: Path, args: list[str]) -> None:
    job = daemon.add(state="running")
    path = wav(tmp_path)
    args = [{"JOB": job, "FILE": path}.get(arg, arg) for arg in args]
    code, out, error = ctl(daemon, *args, "--timeout", "0.05", "--json")
    assert code == 5
    assert json.loads(out)
    assert len(error.splitlines()) == 1


def test_a_drain_that_takes_too_long_says_so_once(daemon: Daemon) -> None:
    daemon.add(state="running")
    code, out, error = ctl(daemon, "drain", "--wait", "--timeout", "0.05")
    assert (code, out) == (5, "")
    assert error.splitlines() == [
        "draining, 1 job still running",
        "sttctl: 1 job is still running; what runs goes on, and nothing new starts",
    ]


def test_a_drain_that_somebody_undoes_is_exit_1(daemon: Daemon) -> None:
    daemon.add(state="running")
    process = start("drain", "--wait", STTD_SOCKET=daemon.endpoint)
    eventually(lambda: any(isinstance(seen, requests.WaitDrained) for seen in daemon.seen))
    daemon.state = "running"
    code, out, error = finished(process)
    assert (code, out.strip()) == (1, "running")
    assert "resumed" in error


def test_a_daemon_that_dies_while_it_is_waited_for_is_exit_4(daemon: Daemon) -> None:
    process = start("wait", daemon.add(), STTD_SOCKET=daemon.endpoint)
    eventually(lambda: daemon.seen)
    daemon.stop()
    assert finished(process)[0] == 4


# -- what goes wrong ----------------------------------------------------------------------------
def test_without_a_daemon_one_line_says_how_to_start_it(tmp_path: Path) -> None:
    code, out, error = finished(start("--socket", f"{tmp_path}/control.sock", "status"))
    assert (code, out) == (4, "")
    assert len(error.splitlines()) == 1
    assert f"{tmp_path}/control.sock" in error
    assert "systemctl start sttd" in error


def test_a_daemon_that_hangs_is_exit_4(daemon: Daemon) -> None:
    wake = threading.Event()
    hanging = threading.Thread(target=lambda: daemon.do(lambda: wake.wait(PATIENCE_S)))
    hanging.start()
    try:
        code, out, error = ctl(daemon, "status", "--json")
    finally:
        wake.set()
        hanging.join()
    assert code == 4
    assert json.loads(out)["error"]["code"] == "no_daemon"
    assert "no answer" in error


def test_a_stale_socket_is_no_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    assert finished(start("--socket", f"{tmp_path}/control.sock", "status"))[0] == 4


def test_a_wrong_job_id_is_refused_with_the_near_ones(daemon: Daemon) -> None:
    job = daemon.add()
    code, out, error = ctl(daemon, "show", job[:-1], "--json")
    assert code == 1
    found = json.loads(out)["error"]
    assert found["code"] == "unknown_job"
    assert job in found["hint"]
    assert job in error


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["statsu"], "status"),
        (["show"], "JOB"),
        (["jobs", "--state", "asleep"], "queued"),
        (["retry"], "--all-failed"),
        (["retry", "1", "--all-failed"], "--all-failed"),
        (["recycle", "w-1", "--all"], "--all"),
        (["scale", "-3"], "-3"),
        (["submit", "nowhere.wav"], "nowhere.wav"),
        (["submit", "/tmp"], "/tmp"),
        (["submit", "-"], "-"),
        (["submit", "a.wav", "b.wav", "--key", "k"], "--key"),
        (["events", "--since", "yesterday-ish"], "--since"),
        (["--socket", "nonsense", "status"], "nonsense"),
        (["--socket", "tcp://127.0.0.1:9", "status"], "--keys"),
    ],
)
def test_a_wrong_command_line_is_exit_2_and_says_what_is_wrong(args: list[str], said: str) -> None:
    code, _, error = finished(start(*args, STTD_SOCKET="ipc:///nowhere/control.sock"))
    assert code == 2
    assert said in error


def test_a_file_that_cannot_be_sent_stops_all_before_the_first(
    daemon: Daemon, tmp_path: Path
) -> None:
    fifo = tmp_path / "pipe.wav"
    os.mkfifo(fifo)
    code, _, error = ctl(daemon, "submit", wav(tmp_path), str(fifo))
    assert code == 2
    assert "pipe.wav" in error
    assert daemon.jobs == {}


def test_a_refused_recording_does_not_stop_the_others(daemon: Daemon, tmp_path: Path) -> None:
    code, out, error = ctl(daemon, "submit", "https://example.invalid/a.wav", wav(tmp_path))
    assert code == 1
    assert "url.enabled" in error
    assert out.endswith("meeting.wav\n")


# -- for people ---------------------------------------------------------------------------------
def on_terminal(daemon: Daemon, *args: str, **env: str) -> str:
    """What a command writes to a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={
            **os.environ,
            "STTD_SOCKET": daemon.endpoint,
            "COLUMNS": "120",
            "TERM": "xterm",
            **env,
        },
    )
    os.close(theirs)
    written = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                piece = terminal.read(65536)
            except OSError:  # EIO: the other end is closed
                break
            if not piece:
                break
            written += piece
    assert process.wait(PATIENCE_S) == 0
    return written.decode()


def test_tables_are_plain_in_a_pipe_coloured_on_a_terminal_and_never_cut(daemon: Daemon) -> None:
    job = daemon.add("a/very/deep/" + "x" * 200 + ".wav")
    daemon.fail(job)
    _, piped, _ = ctl(daemon, "jobs")
    assert "\x1b" not in piped
    assert job in piped
    assert daemon.jobs[job].source.name in piped
    shown = on_terminal(daemon, "jobs")
    assert "\x1b[" in shown
    assert job in shown
    assert "\x1b[1;31m" not in on_terminal(daemon, "jobs", NO_COLOR="1")


def test_status_tells_people_all_there_is_in_their_units(daemon: Daemon) -> None:
    daemon.fail(daemon.add())
    _, out, _ = ctl(daemon, "status")
    for piece in ("running for 1 h 1 min", "40 MiB", "drill is ok", "1 failed", "3 rss_ceiling",
                  "w-17", "123 MiB"):  # fmt: skip
        assert piece in out


def test_what_comes_from_outside_cannot_play_with_the_terminal(daemon: Daemon) -> None:
    job = daemon.add("evil\x1b]0;title\x07[red]\n.wav")
    daemon.fail(job, message="bad \x1b[2J thing")
    daemon.publish("job.failed", job=job, message="\x1b[2J")
    for args in (["jobs"], ["show", job], ["wait", job], ["events"]):
        _, out, _ = ctl(daemon, *args)
        assert "\x1b" not in out
        assert "\x07" not in out
    assert r"evil\x1b]0;title\x07[red]\n.wav" in ctl(daemon, "jobs")[1]


def test_every_verb_explains_itself(daemon: Daemon) -> None:
    code, out, _ = ctl(daemon, "--help")
    assert code == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\S", out, re.MULTILINE)


def test_a_reader_that_goes_away_is_no_error(daemon: Daemon) -> None:
    for _ in range(1000):
        daemon.add("x" * 200)
    with start("jobs", "--limit", "1000", STTD_SOCKET=daemon.endpoint) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    "args", [["events"], ["events", "--follow"], ["workers"], ["status"], ["--help"]]
)
def test_a_reader_that_never_read_is_no_error_of_any_verb(daemon: Daemon, args: list[str]) -> None:
    daemon.publish("job.accepted", job="1")
    with start(*args, STTD_SOCKET=daemon.endpoint) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE_S) == 0


def test_stdout_may_be_closed_or_know_ascii_only(daemon: Daemon) -> None:
    daemon.add("ünï.wav")
    env = {**os.environ, "STTD_SOCKET": daemon.endpoint, "PYTHONIOENCODING": "ascii"}
    for redirection, said in (("", r"\xfcn\xef.wav"), (">&-", "")):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirection}', "sh", *COMMAND, "jobs"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=env,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout


# -- events -------------------------------------------------------------------------------------
def test_events_prints_one_a_line(daemon: Daemon) -> None:
    sent = [daemon.publish("job.accepted", job="1"), daemon.publish("job.failed", job="1")]
    _, out, _ = ctl(daemon, "events", "--json")
    assert [json.loads(line) for line in out.splitlines()] == sent
    _, out, _ = ctl(daemon, "events", "--event", "job.failed", "--json")
    assert [json.loads(line) for line in out.splitlines()] == sent[1:]


def test_events_follows_without_gap_or_repetition(daemon: Daemon) -> None:
    daemon.publish("job.accepted", job="1")
    process = start("events", "--follow", "--json", STTD_SOCKET=daemon.endpoint)
    eventually(lambda: any(isinstance(seen, requests.Events) for seen in daemon.seen))
    daemon.publish("job.started", job="1")
    daemon.publish("job.succeeded", job="1")
    assert process.stdout is not None
    names = [json.loads(process.stdout.readline())["event"] for _ in range(3)]
    assert names == ["job.accepted", "job.started", "job.succeeded"]
    process.send_signal(signal.SIGINT)
    code, _, error = finished(process)
    assert (code, error.strip()) == (130, "")


def test_events_ends_its_following_when_the_daemon_is_gone(daemon: Daemon) -> None:
    process = start("events", "--follow", STTD_SOCKET=daemon.endpoint)
    eventually(lambda: any(isinstance(seen, requests.Events) for seen in daemon.seen))
    daemon.stop()
    code, _, error = finished(process)
    assert code == 4
    assert "no answer from the daemon" in error


def test_all_events_since_a_time_are_asked_for_page_by_page_each_once() -> None:
    happened: list[EventView] = [
        {"timestamp": f"2026-01-31T12:00:00.{n // 300:03d}Z", "event": "job.started", "n": n}
        for n in range(3500)  # a page ends in the middle of a millisecond
    ]

    def ask(since: str, limit: int) -> tuple[EventView, ...]:
        return tuple([e for e in happened if str(e["timestamp"]) >= since][:limit])

    pages = list(events._pages(ask, "2026-01-31T12:00:00.000Z"))
    assert len(pages) > 3
    assert [event for page in pages for event in page] == happened
    assert [len(page) for page in events._pages(ask, "2027-01-01T00:00:00.000Z")] == [0]


def test_an_event_that_the_history_had_already_is_not_shown_again() -> None:
    happened: list[EventView] = [
        {"timestamp": f"2026-01-31T12:00:0{second}.000Z", "event": "job.started"}
        for second in range(3)
    ]
    first, second, third = happened
    assert list(events._fresh(iter(happened), (first, second), whole=False)) == [third]
    assert list(events._fresh(iter([first]), (), whole=True)) == [first]
    assert list(events._fresh(iter(happened), (second,), whole=True)) == [third]
    assert list(events._fresh(iter(happened), (second,), whole=False)) == [first, third]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("90", "2026-01-31T11:58:30.000Z"),
        ("10min", "2026-01-31T11:50:00.000Z"),
        ("1.5 h", "2026-01-31T10:30:00.000Z"),
        ("7d", "2026-01-24T12:00:00.000Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00.000Z"),
        ("2026-01-31T12:00:00.250Z", "2026-01-31T12:00:00.250Z"),
    ],
)
def test_since_takes_a_time_or_a_span(text: str, instant: str) -> None:
    now = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    assert moments.instant(text, now) == instant


# -- small things -------------------------------------------------------------------------------
def test_the_daemon_is_found_where_its_settings_say(tmp_path: Path) -> None:
    config = tmp_path / "sttd.toml"
    config.write_text('[control]\nendpoint = "ipc:///configured.sock"\n')
    environ = {"STTD_CONFIG": str(config)}
    assert finding.endpoint(None, environ) == "ipc:///configured.sock"
    environ["STTD_CONTROL__ENDPOINT"] = "ipc:///overridden.sock"
    assert finding.endpoint(None, environ) == "ipc:///overridden.sock"
    environ["STTD_SOCKET"] = "/bare.sock"
    assert finding.endpoint(None, environ) == "ipc:///bare.sock"
    assert finding.endpoint("tcp://10.0.0.1:9", environ) == "tcp://10.0.0.1:9"
    missing = {"STTD_CONFIG": str(tmp_path / "missing.toml")}
    assert finding.endpoint(None, missing) == "ipc:///run/sttd/control.sock"
    config.write_text("[control\n")
    with pytest.raises(click.UsageError, match=r"sttd\.toml"):
        finding.endpoint(None, {"STTD_CONFIG": str(config)})


def test_keys_for_tcp_must_be_complete_and_private(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    key = "a" * 40
    file.write_text(f'server = "{key}"\npublic = "{key}"\nsecret = "{key}"\n')
    file.chmod(0o640)
    with pytest.raises(click.UsageError, match="chmod 600"):
        finding.keys(str(file), "tcp://127.0.0.1:9")
    file.chmod(0o600)
    curve = finding.keys(str(file), "tcp://127.0.0.1:9")
    assert curve is not None
    assert curve.secret == key.encode()
    assert finding.keys(None, "ipc:///a") is None
    file.write_text(f'server = "{key}"\npublic = "short"\nsecret = "{key}"\n')
    with pytest.raises(click.UsageError, match="40 characters"):
        finding.keys(str(file), "tcp://127.0.0.1:9")


def test_numbers_are_shown_as_people_read_them() -> None:
    assert [human.size(n) for n in (0, 999, 1000, 1536, 40 << 20, 1 << 40, 5 << 50)] == [
        "0 B", "999 B", "1.0 KiB", "1.5 KiB", "40 MiB", "1.0 TiB", "5120 TiB",
    ]  # fmt: skip
    assert [human.span(s) for s in (0, 4.26, 59.6, 61, 3600, 3661, 90000)] == [
        "0.0 s", "4.3 s", "1 min", "1 min 1 s", "1 h", "1 h 1 min", "1 d 1 h",
    ]  # fmt: skip
    assert [human.clock(s) for s in (0, 61.4, 3723)] == ["0:00", "1:01", "1:02:03"]


def test_a_quick_verb_loads_nothing_slow(daemon: Daemon) -> None:
    """What keeps a cold `sttctl status --json` within a few times an `import zmq`."""
    script = (
        "import sys\n"
        "from sttd.ctl.main import run\n"
        f"assert run(['--socket', {daemon.endpoint!r}, 'status', '--json']) == 0\n"
        "slow = {'rich', 'asyncio', 'sttd.config', 'sttd.supervisor', 'tempfile', 'tomllib'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, timeout=PATIENCE_S,
        env={**os.environ, "STTD_CONFIG": "/nowhere"},
    )  # fmt: skip
    assert found.stderr.strip() == "[]"


# -- listings ----------------------------------------------------------------------------------
def test_jobs_asks_for_what_fits_and_sorts_what_is_listed(daemon: Daemon) -> None:
    daemon.add("b.wav", attempts=1)
    daemon.add("a.wav", attempts=3)
    daemon.add("c.wav", attempts=2)

    def names(*args: str) -> list[str]:
        found = told(daemon, "jobs", *args)
        assert isinstance(found, dict)
        return [job["source"]["name"] for job in found["jobs"]]

    assert names("--sort", "name") == ["a.wav", "b.wav", "c.wav"]
    assert names("--sort", "tries", "--reverse") == ["a.wav", "c.wav", "b.wav"]
    fit = "--since 2026-01-31T12:00Z --until 2026-02-01T00:00Z --name stand --kind inbox --key k"
    names(*fit.split(), "--oldest", "--behind", "0190", "--limit", "7")
    assert daemon.seen[-1] == requests.Jobs(
        limit=7,
        after="0190",
        order="oldest",
        since="2026-01-31T12:00:00.000Z",
        until="2026-02-01T00:00:00.000Z",
        name="stand",
        kind="inbox",
        key="k",
    )
    code, _, error = ctl(daemon, "jobs", "--reverse")
    assert (code, "--oldest" in error) == (2, True)
    code, _, error = ctl(daemon, "jobs", "--until", "yesterday")
    assert (code, "--until 'yesterday'" in error) == (2, True)
