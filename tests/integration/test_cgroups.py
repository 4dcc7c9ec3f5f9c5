"""Workers in control groups (v2) of a real kernel: here, or in one that runs as a program."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support import uml
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

MIB = 1 << 20
INNER = "tests/integration/test_cgroups.py"


def hierarchy() -> Path | None:
    """The root of a v2 hierarchy that hands the memory controller to groups beneath it."""
    found = re.search(r"^\S+ (\S+) cgroup2 rw", Path("/proc/mounts").read_text(), re.MULTILINE)
    if found is None or os.geteuid() != 0:
        return None
    root = Path(found[1])
    given = (root / "cgroup.subtree_control").read_text().split()
    return root if "memory" in given else None


in_a_group = pytest.mark.skipif(
    hierarchy() is None, reason="no cgroup v2 with a memory controller for root to use here"
)


@pytest.fixture
def group() -> Iterator[Path]:
    """A delegated group, as a container's: nobody else lives in it."""
    root = hierarchy()
    assert root is not None
    folder = root / f"sttd-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    eventually(lambda: removed(folder), "the groups are empty")


def removed(folder: Path) -> bool:
    try:
        for path, _, _ in os.walk(folder, topdown=False):
            os.rmdir(path)
    except OSError:
        return False
    return True


def inside(group: Path, sttd: Daemon) -> Daemon:
    """Started in the group."""
    join = f'echo $$ > {group}/cgroup.procs; exec "$@"'
    sttd.under = ("sh", "-c", join, "sh")
    return sttd


def workers(group: Path) -> dict[str, Path]:
    return {path.name: path for path in group.iterdir() if re.fullmatch(r"w-\d+", path.name)}


def both(leaf: Path) -> bool:
    return len(value(leaf, "cgroup.procs").split()) == 2


def value(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip()


@in_a_group
def test_each_worker_lives_with_its_decoder_in_a_group_that_goes_with_it(
    group: Path, tmp_path: Path
) -> None:
    lines = {"rss_soft": "80MiB", "rss_ceiling": "120MiB", "max_requests": 1}
    with daemon(pool={"workers": 1}, recycle=lines) as sttd:
        (group / "w-99").mkdir()  # left over by an earlier daemon
        inside(group, sttd).start()
        sttd.until("worker.ready", 2)
        pool = sttd.status()["pool"]
        assert (pool["memory_control"], pool["memory_control_detail"]) == ("cgroup", str(group))
        assert value(group, "cgroup.procs") == ""
        assert value(group / "supervisor", "cgroup.procs") == str(sttd.pid)
        assert len(value(group / "templates", "cgroup.procs").split()) == 2
        eventually(lambda: set(workers(group)) == {"w-1", "w-2"}, "the old group is gone")
        for worker in pool["workers"]:
            leaf = group / worker["id"]
            eventually(partial(both, leaf), "worker and decoder")
            assert str(worker["pid"]) in value(leaf, "cgroup.procs").split()
            assert int(value(leaf, "memory.high")) == 80 * MIB
            assert int(value(leaf, "memory.max")) == (120 + 30 + 128) * MIB
            assert value(leaf, "memory.oom.group") == "1"
        sttd.drop("a.wav", tone(tmp_path / "a.wav", 1.0))
        sttd.transcript("a")
        gone = sttd.until("worker.exited", reason="max_requests")["worker"]
        eventually(lambda: gone not in workers(group), f"{gone}'s group is gone")
        assert sttd.stop() == 0
        assert not sttd.events("cgroup.trouble")
    assert [path.name for path in group.iterdir() if path.is_dir()] == ["supervisor"]


@in_a_group
def test_a_job_between_the_lines_is_not_slowed_down_and_the_next_is_watched_again(
    group: Path, tmp_path: Path
) -> None:
    lines = {"rss_soft": "48MiB", "rss_ceiling": "400MiB"}
    with daemon(pool={"workers": 1, "standby": 0}, recycle=lines) as sttd:
        inside(group, sttd).start()
        (worker,) = (sttd.until("worker.ready")["worker"],)
        leaf = group / worker
        wav = tone(tmp_path / "a.wav", 1.0)
        sttd.drop("a.wav", wav, {"options": {"spike_mb": 60, "spike_s": 0.5}})
        sttd.transcript("a", 120)
        assert re.search(r"^high [1-9]", value(leaf, "memory.events"), re.MULTILINE)
        assert value(leaf, "memory.high") == "max"
        sttd.drop("b.wav", wav)
        sttd.transcript("b")
        assert int(value(leaf, "memory.high")) == 48 * MIB
        assert not sttd.events("worker.killed", "worker.recycled", "cgroup.trouble")
        assert sttd.stop() == 0


@in_a_group
def test_behind_the_ceiling_the_kernel_ends_a_worker_that_nobody_watches(
    group: Path, tmp_path: Path
) -> None:
    lines = {"rss_soft": 0, "rss_ceiling": "48MiB"}
    with daemon(pool={"workers": 1}, recycle=lines, retry={"max_attempts": 1}) as sttd:
        inside(group, sttd).start()
        sttd.until("worker.ready", 2)
        wav = tone(tmp_path / "a.wav", 1.0)
        later = {"leak_mb_per_s": 2000, "leak_after_s": 1.0, "sleep_s": 60}
        sttd.drop("a.wav", wav, {"options": later})
        leaf = group / sttd.until("job.started")["worker"]
        with (leaf / "memory.events").open() as events:
            os.kill(sttd.pid, signal.SIGSTOP)
            try:
                killed = re.compile(r"^oom_kill [1-9]", re.MULTILINE)
                eventually(lambda: events.seek(0) == 0 and killed.search(events.read()), "", 120)
            finally:
                os.kill(sttd.pid, signal.SIGCONT)
        ended = sttd.until("worker.exited")
        assert (ended["reason"], ended["signal"]) == ("rss_ceiling", signal.SIGKILL)
        assert sttd.until("job.failed")["code"] == "rss_ceiling"
        life = eventually(lambda: sttd.json("workers", "--history")["lives"])[0]
        assert (life["cause"], life["decider"]) == ("rss_ceiling", "kernel")
        assert sttd.status()["recycles"]["rss_ceiling"] == 1
        assert sttd.stop() == 0


def test_where_no_group_is_delegated_workers_are_polled_and_status_says_why() -> None:
    with daemon(pool={"workers": 1, "standby": 0, "cgroups": "off"}) as sttd:
        sttd.start()
        pool = sttd.status()["pool"]
        assert pool["memory_control"] == "polling"
        assert pool["memory_control_detail"] == "pool.cgroups is off"
        assert "workers are polled (pool.cgroups is off)" in sttd.ctl("status").stdout
    with daemon(pool={"workers": 1, "standby": 0}) as sttd:
        sttd.start()
        pool = sttd.status()["pool"]
        assert pool["memory_control"] == "polling"
        assert pool["memory_control_detail"]  # the test's own group is no service's


@pytest.mark.sweep
@pytest.mark.skipif(hierarchy() is not None, reason="this kernel has been tried itself")
@pytest.mark.skipif(bool(uml.unavailable()), reason=uml.unavailable() or "-")
@pytest.mark.timeout(300)
def test_the_same_in_a_kernel_that_has_control_groups(tmp_path: Path) -> None:
    code, printed = uml.pytest_in_it(tmp_path, INNER, "-k", "not polled and not same")
    assert code == 0, printed[-4000:]
    assert "3 passed" in printed
