"""Pools asked for more than there is, or for the next thing before the last one is done."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter

import psutil

from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually


def templates(sttd: Daemon) -> Counter[str]:
    """Names of the living templates."""
    found = []
    for child in psutil.Process(sttd.pid).children():
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.name())
        except psutil.NoSuchProcess:
            continue
    return Counter(name for name in found if name.endswith("-t"))


ONE_OF_EACH = Counter({"sttd-engine-t": 1, "sttd-decode-t": 1})


def states(sttd: Daemon) -> Counter[str]:
    return Counter(worker["state"] for worker in sttd.status()["pool"]["workers"])


def test_reloads_while_a_template_loads_leave_one_behind() -> None:
    with daemon(pool={"workers": 1}, engine={"options": {"slow_init_s": 1.0}}) as sttd:
        sttd.start()
        sttd.until("worker.ready", 2)
        for n in range(3):
            sttd.configure(
                pool={"workers": 1}, engine={"options": {"slow_init_s": 1.0, "text": f"{n}"}}
            )
            assert sttd.ctl("reload").returncode == 0
        sttd.until("worker.ready", 4)
        eventually(lambda: templates(sttd) == ONE_OF_EACH)
        assert sttd.stop() == 0


def test_the_decoders_template_dies_while_the_engine_loads() -> None:
    with daemon(pool={"workers": 1}, engine={"options": {"slow_init_s": 3.0}}) as sttd:
        sttd.start(wait=False)
        eventually(lambda: templates(sttd) == ONE_OF_EACH)
        (decoders,) = (
            child
            for child in psutil.Process(sttd.pid).children()
            if child.name() == "sttd-decode-t"
        )
        decoders.kill()
        sttd.until("worker.ready", 2)
        eventually(lambda: templates(sttd) == ONE_OF_EACH)
        assert sttd.stop() == 0


def test_a_pool_is_scaled_to_hundreds_and_back() -> None:
    pool = {"workers": 1, "max_per_memory": False}
    with daemon(pool=pool, recycle={"grace": "60s"}) as sttd:
        sttd.start()
        sttd.until("worker.ready", 2)
        assert sttd.ctl("scale", "320").returncode == 0
        eventually(lambda: states(sttd) == {"idle": 320, "standby": 1}, deadline_s=60)
        assert sttd.ctl("scale", "2").returncode == 0
        eventually(lambda: states(sttd) == {"idle": 2, "standby": 1}, deadline_s=60)
        assert sttd.events("worker.killed") == []
        assert sttd.stop() == 0


def test_a_daemon_without_descriptors_for_its_workers_lives_and_says_so() -> None:
    with daemon(pool={"workers": 1, "max_per_memory": False}) as sttd:
        sttd.under = ("prlimit", "--nofile=256:256")
        sttd.start()
        sttd.until("worker.ready", 2)
        sttd.ctl("scale", "60")
        told = sttd.until("worker.exited", reason="crashed")
        assert "Too many open files" in told["message"]
        assert "raise LimitNOFILE=" in told["message"]
        with contextlib.ExitStack() as held:  # they find the descriptors that are kept for them
            for _ in range(40):
                one = held.enter_context(socket.socket(socket.AF_UNIX))
                one.settimeout(30)
                one.connect(str(sttd.home / "c.sock"))
                assert one.recv(1) == b"\xff", "libzmq's greeting: it was let in"
            assert sttd.status()["pool"]
        assert sttd.ctl("scale", "2").returncode == 0
        eventually(lambda: states(sttd) == {"idle": 2, "standby": 1}, deadline_s=60)
        assert sttd.stop() == 0
