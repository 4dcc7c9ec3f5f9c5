"""The kernel's own killer takes a worker: the job runs again, and the record says what is known."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import machine
from tests.support.waiting import eventually
from tests.support.wav import tone

V1 = Path("/sys/fs/cgroup/memory")
V2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
MOST = 160 << 20  # bytes for the processes in the group


@contextlib.contextmanager
def small_group() -> Iterator[Path]:
    """A control group that holds little memory, of either version; skip where there is none."""
    limit = "memory.limit_in_bytes"
    place = V1 if (V1 / limit).exists() else next((p for p in V2 if _has_memory(p)), None)
    if place is None or os.geteuid() != 0:
        pytest.skip("no control group with a memory controller that we may change")
    group = place / f"sttd-oom-{os.getpid()}"
    group.mkdir()
    try:
        if not (group / limit).exists():
            limit = "memory.max"
        (group / limit).write_text(str(MOST))
        yield group
    finally:
        eventually(lambda: (group / "cgroup.procs").read_text() == "", "the group is empty")
        group.rmdir()


def _has_memory(place: Path) -> bool:
    path = place / "cgroup.subtree_control"
    return path.exists() and "memory" in path.read_text().split()


def test_a_worker_that_the_kernel_kills_for_memory_costs_its_job_one_try(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.3)
    recycle = {"rss_soft": 0, "rss_ceiling": "8GiB"}
    with small_group() as group, machine(pool={"workers": 2}, recycle=recycle) as m:
        sttd = m.sttd
        sttd.start()
        sttd.until("worker.ready", 2)
        for worker in sttd.status()["pool"]["workers"]:
            (group / "cgroup.procs").write_text(str(worker["pid"]))
        options = {"leak_mb": 400, "once_marker": str(tmp_path / "once")}
        sttd.drop("greedy.wav", wav, {"options": options})
        assert sttd.transcript("greedy")["attempts"] == 2
        (gone,) = sttd.events("worker.exited")
        assert (gone["reason"], gone["signal"]) == ("crashed", 9)
        assert "lack of memory" in gone["message"]
        sttd.drop("other.wav", wav)
        assert sttd.transcript("other")["attempts"] == 1
        assert sttd.events("daemon.failed", "job.failed") == []
        assert sttd.stop() == 0
