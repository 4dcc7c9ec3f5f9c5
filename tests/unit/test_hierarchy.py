"""Where the daemon is among control groups, whether that is its own, what limits it sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.core.recycling import MIB, RecyclePolicy
from sttd.supervisor.cgroups import Cgroups, Leaf, Limits, limits, settle_in
from sttd.supervisor.hierarchy import obstacle, service_folder

MOUNTS = """\
24 30 0:22 / /proc rw,nosuid shared:13 - proc proc rw
31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
{more}"""
OWN = "/system.slice/sttd.service"
RW = f"88 31 0:27 {OWN} /sys/fs/cgroup{OWN} rw - cgroup2 c rw"
HYBRID = "41 24 0:30 / /sys/fs/cgroup/my\\040unified rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("cgroup", "more", "folder"),
    [
        ("0::/system.slice/sttd.service\n", "", "/sys/fs/cgroup/system.slice/sttd.service"),
        ("0::/system.slice/sttd.service\n", RW, "/sys/fs/cgroup/system.slice/sttd.service"),
        # restarted in place: it is in its leaf already
        ("0::/a/supervisor\n", "", "/sys/fs/cgroup/a"),
        ("0::/\n", "", "/sys/fs/cgroup"),  # a container's own namespace
        ("12:memory:/user.slice\n0::/user.slice\n", "", "/sys/fs/cgroup/user.slice"),
        ("4:memory:/a\n", "", None),  # v1 alone
    ],
)
def test_the_services_folder_is_found(cgroup: str, more: str, folder: str | None) -> None:
    found = service_folder(cgroup, MOUNTS.format(more=more))
    assert found == (Path(folder) if folder else None)


def test_a_hierarchy_beside_the_old_one_is_found_whatever_its_name() -> None:
    assert service_folder("0::/a\n", HYBRID) == Path("/sys/fs/cgroup/my unified/a")
    assert service_folder("0::/a\n", "") is None


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A delegated group as its files look, the daemon alone in it."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    try:
        os.setxattr(tmp_path, "user.delegate", b"1")
    except OSError:
        pytest.skip("no extended attributes here")
    return tmp_path


def test_a_group_that_is_delegated_and_ours_alone_has_no_obstacle(tree: Path) -> None:
    assert obstacle(tree, [os.getpid()]) == ""


def test_every_obstacle_is_named(tree: Path) -> None:
    me = os.getpid()
    assert obstacle(None, [me]) == "no control group (v2) with a memory controller"
    assert "process" in obstacle(tree, [me + 1])
    (tree / "cgroup.controllers").write_text("cpu pids\n")
    assert obstacle(tree, [me]) == f"the memory controller is not enabled for {tree}"
    (tree / "cgroup.controllers").write_text("memory\n")
    os.setxattr(tree, "user.delegate", b"0")
    assert obstacle(tree, [me]) == f"{tree} is not delegated (systemd: Delegate=yes)"
    (tree / "cgroup.controllers").unlink()
    assert str(tree) in obstacle(tree, [me])


def test_off_is_off() -> None:
    groups = settle_in("off", RecyclePolicy, print)
    assert (groups.active, groups.why) == (False, "pool.cgroups is off")
    groups.enter("w-1", 1)
    groups.shelter(1)
    groups.busy("w-1")
    assert groups.leave("w-1") == {}


def test_a_folder_that_cannot_be_taken_leaves_polling(tmp_path: Path) -> None:
    groups = Cgroups(tmp_path / "gone", "", RecyclePolicy)
    assert not groups.active
    assert "No such file" in groups.why


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_the_wall_is_behind_the_ceiling_and_a_rule_that_is_off_sets_none(
    soft: int, ceiling: int
) -> None:
    bounds = limits(RecyclePolicy(rss_soft=soft, rss_ceiling=ceiling))
    assert bounds.high == soft
    assert bounds.most == 0 if not ceiling else bounds.most >= ceiling + 128 * MIB


def test_a_leaf_is_limited_lifted_and_armed_again(tmp_path: Path) -> None:
    folder = tmp_path / "w-1"
    folder.mkdir()
    (folder / "memory.events").write_text("low 0\nhigh 3\nmax 0\noom 0\noom_kill 0\n")
    leaf = Leaf(folder, Limits(100, 250))
    assert (folder / "memory.high").read_text() == "100"
    assert (folder / "memory.max").read_text() == "250"
    assert (folder / "memory.oom.group").read_text() == "1"
    (folder / "memory.events").write_text("low 0\nhigh 5\nmax 0\noom 1\noom_kill 2\n")
    assert leaf.events() == {"low": 0, "high": 2, "max": 0, "oom": 1, "oom_kill": 2}
    leaf.lift()
    assert (folder / "memory.high").read_text() == "max"
    (folder / "memory.current").write_text("101\n")
    leaf.arm()
    assert (folder / "memory.high").read_text() == "max", "above it the writer would wait"
    (folder / "memory.current").write_text("99\n")
    leaf.arm()
    assert (folder / "memory.high").read_text() == "100"
    leaf.close()
