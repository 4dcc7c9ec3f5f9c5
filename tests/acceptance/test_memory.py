"""What sttctl tells of memory and of the past, about a real daemon with real workers."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import PYTHON, ROOT, Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

ENGINE = "tests.support.handled:Handled"
PATIENCE_S = 60


@pytest.fixture(scope="module")
def wav() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield tone(Path(folder) / "talk.wav", 4.0)


@pytest.fixture(scope="module")
def sttd(wav: Path) -> Iterator[Daemon]:
    """A daemon that has recycled one worker after two jobs and killed one at the ceiling."""
    recycle = {"max_requests": 2, "rss_soft": "80MiB", "rss_ceiling": "120MiB"}
    with daemon(
        engine={"name": ENGINE},
        pool={"workers": 1},
        recycle=recycle,
        retry={"max_attempts": 1},
    ) as one:
        one.start()
        for name in ("a", "b"):
            one.drop(f"{name}.wav", wav, {"options": {"leak_mb": 4}})
        one.until("worker.recycled", reason="max_requests")
        one.drop("leaky.wav", wav, {"options": {"leak_mb_per_s": 200, "sleep_s": 30}})
        one.until("job.failed", code="rss_ceiling")
        eventually(lambda: len(one.json("workers", "--history")["lives"]) == 2, "two lives")
        yield one


def test_every_life_that_is_over_is_listed_with_its_cause_and_figures(sttd: Daemon) -> None:
    lives = {life["cause"]: life for life in sttd.json("workers", "--history")["lives"]}
    killed, recycled = lives["rss_ceiling"], lives["max_requests"]
    assert (recycled["cause"], recycled["decider"], recycled["jobs"]) == (
        "max_requests",
        "policy",
        2,
    )
    assert 2 << 20 < recycled["leak_per_job_bytes"] < 16 << 20
    assert killed["cause"] == "rss_ceiling"
    assert killed["peak_rss_bytes"] > 120 << 20
    assert killed["kill_latency_s"] >= 0
    assert len(sttd.json("workers", "--history", "--limit", "1")["lives"]) == 1
    shown = sttd.ctl("workers", "--history").stdout
    assert "rss_ceiling" in shown
    assert "max_requests" in shown


def test_why_a_worker_is_gone_is_told_in_words_and_with_its_events(sttd: Daemon) -> None:
    lives = sttd.json("workers", "--history")["lives"]
    worker = next(life["worker"] for life in lives if life["cause"] == "max_requests")
    why = sttd.json("why", worker)
    assert why["kind"] == "worker"
    assert why["life"]["cause"] == "max_requests"
    assert why["events"][0]["event"] == "worker.spawned"
    assert {e["worker"] for e in why["events"]} == {worker}
    assert "recycle.max_requests" in sttd.ctl("why", worker).stdout


def test_names_that_nobody_has_are_told_with_near_ones(sttd: Daemon) -> None:
    job = sttd.events("job.failed")[0]["job"]
    wrong = job[:-1] + ("0" if job[-1] != "0" else "1")
    for args, said in (
        (("why", "w-99"), "no worker w-99; sttctl workers"),
        (("events", "--worker", "w-99"), "no worker w-99; sttctl workers"),
        (("events", "--job", wrong), f"did you mean {job}?"),
    ):
        done = sttd.ctl(*args)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
    done = sttd.ctl("events", "--event", "job.faild")
    assert (done.returncode, done.stdout.strip()) == (0, "no events")
    assert "did you mean job.failed?" in done.stderr
    done = sttd.ctl("events", "--event", "job.damaged", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_a_worker_hung_is_told_even_when_its_job_has_succeeded_since(
    wav: Path, tmp_path: Path
) -> None:
    hang = {"hang": True, "once_marker": str(tmp_path / "hung")}
    with daemon(pool={"workers": 1}, recycle={"stall_timeout": "3s"}) as one:
        one.start()
        one.drop("talk.wav", wav, {"options": hang})
        one.transcript("talk")
        killed = one.until("worker.killed", reason="stalled")["worker"]
        job = one.until("job.succeeded")["job"]
        eventually(
            lambda: one.json("show", job)["original"] is not None, "the original is put away"
        )
        assert one.leftovers() == []
        eventually(lambda: one.json("workers", "--history")["lives"], "its life is over")
        for about in (killed, job):
            (evidence,) = one.json("why", about)["evidence"]
            assert "hang" in evidence["stacks"]
            assert evidence["threads"]
            assert "misdeeds.py" in one.ctl("why", about).stdout


def test_why_a_job_failed_comes_with_its_attempt_its_workers_life_and_the_evidence(
    sttd: Daemon,
) -> None:
    job = sttd.events("job.failed")[0]["job"]
    why = sttd.json("why", job)
    assert (why["kind"], why["job"]["error"]["code"]) == ("job", "rss_ceiling")
    (attempt,) = why["attempts"]
    assert attempt["life"]["cause"] == "rss_ceiling"
    assert attempt["life"]["worker"] == attempt["worker"]
    eventually(lambda: sttd.json("why", job)["evidence"], "the evidence in failed/")
    (evidence,) = sttd.json("why", job)["evidence"]
    assert evidence["samples"][-1][1] > 100 << 20
    shown = sttd.ctl("why", job).stdout
    assert "evidence of attempt 1" in shown
    assert "killed at once" in shown


def test_why_about_nobody_is_refused(sttd: Daemon) -> None:
    done = sttd.ctl("why", "w-4711", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "unknown_worker"
    done = sttd.ctl("why", "nobody", "--json")
    assert json.loads(done.stdout)["error"]["code"] == "unknown_job"


def _idle(sttd: Daemon) -> Any:
    found = sttd.json("memory", "--deep")["workers"]
    return next((w for w in found if w["state"] == "idle" and w["heap"]), None)


def test_an_idle_worker_says_what_is_in_its_memory_and_what_a_job_has_left(
    sttd: Daemon, wav: Path
) -> None:
    before = eventually(lambda: _idle(sttd), "an idle worker answers")
    assert before["heap"]["handles"] == {"sessions": 0, "recognizers": 0}
    assert 0 < before["uss_bytes"] <= before["pss_bytes"] <= before["rss_bytes"]
    assert before["forecast"] == {"reason": "max_requests", "in_jobs": 2, "in_s": None}
    assert before["ceiling_room_bytes"] == (120 << 20) - before["rss_bytes"]
    sttd.drop("c.wav", wav, {"options": {"leak_mb": 8}})
    sttd.until("job.succeeded", 3)

    def again() -> Any:
        found = sttd.json("memory", "--deep")["workers"]
        return next((w for w in found if w["jobs"] == 1 and w["heap"]), None)

    after: Any = eventually(again, "the same worker answers again")
    change = after["heap"]["change"]
    assert after["id"] == before["id"]
    assert change["jobs"] == 1
    assert change["handles"] == {"sessions": 1}
    assert change["anonymous_bytes"] > 7 << 20
    assert "native handles: sessions 1" in sttd.ctl("memory", "--deep").stdout


def test_a_busy_worker_is_not_disturbed_and_its_job_shows_its_pace(tmp_path: Path) -> None:
    with daemon(pool={"workers": 1, "standby": 0}) as sttd:
        sttd.start()
        wav = tone(tmp_path / "long.wav", 240.0)
        sttd.drop("long.wav", wav, {"options": {"sleep_s": 60, "segments": 600}})
        job = sttd.until("job.started")["job"]
        view = eventually(lambda: sttd.json("show", job)["speed"] and sttd.json("show", job))
        assert view["speed"] > 0
        assert view["left_s"] > 0
        assert "x real time" in sttd.ctl("show", job).stdout
        (worker,) = sttd.json("memory")["workers"]
        assert (worker["heap"], worker["not_asked"]) == (None, "it is busy")
        frame = sttd.ctl("top").stdout
        assert "long.wav" in frame
        assert "x real time" in frame
        sttd.json("cancel", job)


def test_the_saw_tooth_is_drawn_as_svg_and_as_png(sttd: Daemon, tmp_path: Path) -> None:
    for name, start in (("m.svg", b"<svg "), ("m.png", b"\x89PNG\r\n")):
        done = sttd.ctl("memory", "--plot", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name).read_bytes().startswith(start)
    picture = (tmp_path / "m.svg").read_text()
    for text in ("max_requests", "rss_ceiling", "soft 80 MiB", "ceiling 120 MiB"):
        assert text in picture
    assert sttd.ctl("memory", "--plot", str(tmp_path / "m.gif")).returncode == 2


def test_the_configuration_in_force_says_where_each_value_comes_from(sttd: Daemon) -> None:
    found = {one["key"]: one for one in sttd.json("config", "show")["settings"]}
    assert found["recycle.rss_ceiling"]["value"] == "120MiB"
    assert found["recycle.rss_ceiling"]["origin"].startswith(f"{sttd.config}:")
    assert found["recycle.max_age"]["origin"] == "default"
    changed = sttd.json("config", "show", "recycle", "--changed")["settings"]
    assert all(one["key"].startswith("recycle.") for one in changed)
    assert "default" not in {one["origin"] for one in changed}
    slip = sttd.ctl("config", "show", "recycel")
    assert slip.returncode == 2
    assert "did you mean 'recycle'?" in slip.stderr


def test_the_shell_is_offered_verbs_workers_and_jobs(sttd: Daemon) -> None:
    def offered(words: str) -> list[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "_STTCTL_COMPLETE": "bash_complete"}
        env |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        done = subprocess.run(
            [PYTHON, "-m", "sttd.ctl"], env=env, capture_output=True, text=True, check=True
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    assert "submit" in offered("sttctl sub")
    workers = {worker["id"] for worker in sttd.json("workers")["workers"]}
    assert workers <= set(offered(f"sttctl --socket {sttd.endpoint} recycle w"))
    job = sttd.json("jobs")["jobs"][0]["job"]
    assert job in offered(f"sttctl --socket {sttd.endpoint} show {job[:6]}")
    failed, succeeded = (
        {one["job"] for one in sttd.json("jobs", "--state", state)["jobs"]}
        for state in ("failed", "succeeded")
    )
    to_retry = set(offered(f"sttctl --socket {sttd.endpoint} retry "))
    assert failed <= to_retry
    assert not succeeded & to_retry
    assert not succeeded & set(offered(f"sttctl --socket {sttd.endpoint} cancel "))
    assert "recycle.rss_soft" in offered(f"sttctl --socket {sttd.endpoint} config show recycle")
    assert offered("sttctl --socket /nowhere/c.sock show 0") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(sttd: Daemon, shell: str) -> None:
    script = sttd.ctl("completion", shell)
    assert script.returncode == 0
    assert "_STTCTL_COMPLETE" in script.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=True)


# -- top on a terminal --------------------------------------------------------------------------
class Terminal:
    """sttctl on a terminal of its own."""

    def __init__(self, sttd: Daemon, *args: str) -> None:
        self.fd, theirs = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.mode = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sttd.ctl", "--socket", sttd.endpoint, *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        )
        self.theirs = theirs
        self.written = b""

    def read(self) -> bytes:
        """What has come so far."""
        while select.select([self.fd], [], [], 0)[0]:
            self.written += os.read(self.fd, 65536)
        return self.written

    def ended(self) -> int:
        end = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
        self.read()
        return self.process.wait(1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.fd)
        os.close(self.theirs)


@pytest.fixture
def terminal(sttd: Daemon) -> Iterator[Terminal]:
    one = Terminal(sttd, "top", "--every", "0.2")
    eventually(lambda: b"q quit" in one.read(), "the first frame", PATIENCE_S)
    yield one
    one.close()


def _quit(one: Terminal) -> None:
    os.write(one.fd, b"q")


def _interrupt(one: Terminal) -> None:
    one.process.send_signal(signal.SIGINT)


def _terminate(one: Terminal) -> None:
    one.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("leave", [_quit, _interrupt, _terminate])
def test_top_leaves_the_terminal_as_it_was(
    terminal: Terminal, leave: Callable[[Terminal], None]
) -> None:
    assert termios.tcgetattr(terminal.theirs) != terminal.mode
    leave(terminal)
    assert terminal.ended() == 0
    assert termios.tcgetattr(terminal.theirs) == terminal.mode
    assert terminal.written.rstrip().endswith(b"\x1b[?1049l")  # the old screen is back
    assert b"\x1b[?25h" in terminal.written  # and the cursor


def test_top_recycles_the_selected_worker_and_drains_and_resumes(
    terminal: Terminal, sttd: Daemon
) -> None:
    asked = len(sttd.events("worker.recycled"))
    os.write(terminal.fd, b"r")
    # read all the while: what nobody reads blocks it
    eventually(lambda: terminal.read() and len(sttd.events("worker.recycled")) > asked, "recycled")
    os.write(terminal.fd, b"d")
    eventually(lambda: terminal.read() and sttd.status()["daemon"]["state"] == "drained", "drained")
    eventually(lambda: b"drained" in terminal.read(), "top shows it")
    os.write(terminal.fd, b"d")
    eventually(lambda: terminal.read() and sttd.status()["daemon"]["state"] == "running", "resumed")


def test_d_again_resumes_before_top_has_looked_again(sttd: Daemon) -> None:
    one = Terminal(sttd, "top", "--every", "600")
    try:
        eventually(lambda: b"q quit" in one.read(), "the first frame", PATIENCE_S)
        os.write(one.fd, b"d")
        eventually(lambda: b"d again resumes" in one.read(), "it drains")
        os.write(one.fd, b"d")
        eventually(lambda: b"resumed" in one.read(), "it resumes")
        assert sttd.status()["daemon"]["state"] == "running"
    finally:
        one.close()
        sttd.ctl("resume")


def test_top_in_a_pipe_prints_one_plain_frame(sttd: Daemon) -> None:
    done = sttd.ctl("top")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "MEMORY" in done.stdout
    assert "of 120 MiB" in done.stdout


def test_a_job_that_no_fresh_worker_could_hold_is_tried_once_and_fails_with_the_figures(
    tmp_path: Path,
) -> None:
    recycle = {"max_requests": 0, "rss_soft": 0, "rss_ceiling": "100MiB", "sample_every": "0.05s"}
    retry = {"max_crashes": 9, "max_attempts": 9, "backoff": 0}
    with daemon(pool={"workers": 2}, recycle=recycle, retry=retry) as sttd:
        sttd.start()
        for n in range(12):  # 6 MiB for each minute of audio, given back at the end
            seconds = 30.0 + 20 * n
            wav = tone(tmp_path / f"{n}.wav", seconds)
            sttd.drop(f"{n}.wav", wav, {"options": {"spike_mb": 0.1 * seconds, "spike_s": 0.3}})
        sttd.until("job.succeeded", 12)
        bad = {"leak_mb_per_s": 200, "leak_after_s": 0.5, "sleep_s": 30, "segments": 0}
        sttd.drop("long.wav", tone(tmp_path / "long.wav", 1500.0), {"options": bad})
        failed = sttd.until("job.failed")
        assert (failed["code"], failed["attempt"]) == ("too_large_for_ceiling", 1)
        assert "25 min of audio take at least" in failed["message"]
        assert "raise recycle.rss_ceiling or split the recording" in failed["message"]
