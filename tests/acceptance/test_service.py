"""The daemon as a service: notifications, watchdog, reload, template deaths, steady memory."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.support.daemon import PYTHON, ROOT, Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return tone(tmp_path / "talk.wav", 0.3)


class NotifySocket:
    """What systemd listens on, faithfully: an AF_UNIX datagram socket named by $NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.heard: list[str] = []

    def lines(self) -> list[str]:
        while True:
            try:
                self.heard += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.heard

    def close(self) -> None:
        self._socket.close()


def test_systemd_hears_ready_status_watchdog_reloading_and_stopping() -> None:
    with daemon() as sttd:
        notify = NotifySocket(sttd.home / "notify")
        try:
            sttd.start(env={"NOTIFY_SOCKET": str(notify.path), "WATCHDOG_USEC": "200000"})
            eventually(lambda: "READY=1" in notify.lines())
            assert any(line.startswith("STATUS=") for line in notify.lines())
            eventually(lambda: notify.lines().count("WATCHDOG=1") >= 3)
            os.kill(sttd.pid, signal.SIGHUP)
            eventually(lambda: "RELOADING=1" in notify.lines())
            eventually(lambda: notify.lines().count("READY=1") == 2)
            assert sttd.stop() == 0
            assert "STOPPING=1" in notify.lines()
        finally:
            notify.close()


def test_a_frozen_daemon_feeds_no_watchdog() -> None:
    with daemon() as sttd:
        notify = NotifySocket(sttd.home / "notify")
        try:
            sttd.start(env={"NOTIFY_SOCKET": str(notify.path), "WATCHDOG_USEC": "200000"})
            eventually(lambda: "WATCHDOG=1" in notify.lines())
            os.kill(sttd.pid, signal.SIGSTOP)
            stat = Path(f"/proc/{sttd.pid}/stat")
            eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
            before = len(notify.lines())
            os.kill(sttd.pid, signal.SIGCONT)
            eventually(lambda: len(notify.lines()) > before)
        finally:
            notify.close()


def test_a_reload_changes_what_can_change_and_names_what_waits_for_a_restart(wav: Path) -> None:
    with daemon(pool={"workers": 1}) as sttd:
        sttd.start()
        sttd.until("worker.ready", 2)
        before = {w["id"] for w in sttd.status()["pool"]["workers"]}
        sttd.configure(
            pool={"workers": 2},
            metrics={"listen": "127.0.0.1:1"},
            engine={"options": {"text": "a new voice"}},
        )
        answer = sttd.json("reload")
        assert set(answer["changed"]) == {"pool.workers", "engine.options.text"}
        assert answer["needs_restart"] == ["metrics.listen"]

        def rolled() -> bool:
            workers = sttd.status()["pool"]["workers"]
            settled = all(w["state"] in ("idle", "standby") for w in workers)
            return len(workers) == 3 and settled and not {w["id"] for w in workers} & before

        eventually(rolled, "every worker is forked from the new template")
        sttd.drop("a.wav", wav)
        assert "new voice" in sttd.transcript("a")["text"]
        assert sttd.status()["recycles"]["reloaded"] >= 2
        assert sttd.status()["recycles"]["crashed"] == 0


def test_a_wrong_configuration_is_refused_on_reload_and_the_old_one_holds(wav: Path) -> None:
    with daemon() as sttd:
        sttd.start()
        sttd.config.write_text(sttd.config.read_text() + "\n[pool]\nworkrs = 3\n")
        done = sttd.ctl("reload")
        assert done.returncode == 1
        assert "workers" in done.stderr
        sttd.drop("a.wav", wav)
        assert sttd.transcript("a")


def test_a_template_that_dies_is_restarted_and_disturbs_no_running_worker(wav: Path) -> None:
    with daemon(pool={"workers": 1}, recycle={"max_requests": 1}) as sttd:
        sttd.start()
        template = sttd.until("template.ready")["pid"]
        sttd.until("worker.ready", 2)
        sttd.drop("long.wav", wav, {"options": {"sleep_s": 1.5}})
        sttd.until("job.started")
        os.kill(template, signal.SIGKILL)
        sttd.until("template.ready", 2)
        assert sttd.transcript("long")["attempts"] == 1
        for n in range(3):
            sttd.drop(f"{n}.wav", wav)
        for n in range(3):
            assert sttd.transcript(str(n))["attempts"] == 1
        assert sttd.status()["recycles"]["crashed"] == 0


def test_nobody_below_a_daemon_at_a_terminal_has_that_terminal() -> None:
    with daemon() as sttd:
        pid, terminal = pty.fork()
        if pid == 0:
            environ = {**os.environ, "PYTHONPATH": str(ROOT)}
            os.execve(PYTHON, [PYTHON, "-m", "sttd", "-c", str(sttd.config)], environ)
        os.set_blocking(terminal, False)

        def family() -> dict[str, str | None]:
            """The terminal of each, by name; those between two forks come and go."""
            with contextlib.suppress(BlockingIOError):
                os.read(terminal, 65536)  # what nobody reads holds it up
            found = {}
            for one in psutil.Process(pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[one.name()] = one.terminal()
            return found

        try:
            eventually(lambda: any(name.startswith("sttd-w-") for name in family()))
            assert psutil.Process(pid).terminal() is not None
            assert set(family().values()) == {None}
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(terminal)


def at_rest(sttd: Daemon) -> bool:
    states = Counter(worker["state"] for worker in sttd.status()["pool"]["workers"])
    return states == {"idle": 2, "standby": 1}


def test_memory_descriptors_and_threads_stay_flat_over_many_jobs(wav: Path) -> None:
    with daemon(recycle={"max_requests": 10}, outbox={"formats": ["json"]}) as sttd:
        sttd.start()

        def serve(first: int, count: int) -> tuple[int, int, int]:
            for n in range(first, first + count):
                sttd.drop(f"{n}.wav", wav, {"options": {"text": "x"}})
            eventually(lambda: sttd.status()["queue"]["succeeded"] == first + count, "done", 120)
            eventually(lambda: sttd.leftovers() == [])
            eventually(lambda: at_rest(sttd), "nobody is being replaced")
            proc = Path(f"/proc/{sttd.pid}")
            rss = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            return rss, len(os.listdir(proc / "fd")), len(os.listdir(proc / "task"))

        rss, fds, threads = serve(0, 150)
        rss_later, fds_later, threads_later = serve(150, 150)
        assert rss_later < 60 << 20
        assert rss_later - rss < 2 << 20
        assert fds_later <= fds + 2
        # threads for the disk are made when all others are busy; 15 workers came and went
        assert threads_later <= threads + 8
