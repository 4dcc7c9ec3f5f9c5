"""Where this process is in the control groups (v2) of the machine, and whether the place is ours.

Reads only; made of plain functions over text and folders. Source: cgroup-v2.rst of the kernel and
systemd's CGROUP_DELEGATION.md (one writer per group; what is delegated carries a mark).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

SUPERVISOR = "supervisor"  # the leaf the daemon moves itself to
MARKS = ("user.delegate", "trusted.delegate")  # xattrs by systemd; the first since version 251
CGROUPS = Path("/proc/self/cgroup")
MOUNTS = Path("/proc/self/mountinfo")
SYSTEMD = Path("/run/systemd/system")  # there while systemd is the init: sd_booted(3)


def service_folder(cgroup: str, mounts: str) -> Path | None:
    """The folder of the service's group: our own, or the one above when we are in our leaf.

    `cgroup` and `mounts` are the texts of /proc/self/cgroup and mountinfo. None without v2.
    """
    path = next((line[3:] for line in cgroup.splitlines() if line.startswith("0::/")), None)
    if path is None:
        return None
    if path.rsplit("/", 1)[-1] == SUPERVISOR:
        path = path.rsplit("/", 1)[0] or "/"
    found: tuple[int, Path] | None = None
    for line in mounts.splitlines():  # mountinfo: proc_pid_mountinfo(5)
        head, _, tail = line.partition(" - ")
        if not tail.startswith("cgroup2 "):
            continue
        root, point = head.split(" ")[3:5]
        beneath = _beneath(path, root)
        if beneath is not None and (found is None or len(root) >= found[0]):
            found = len(root), Path(_plain(point)) / beneath  # the later hides the earlier
    return found[1] if found else None


def own_folder() -> Path | None:
    """The folder of this process's service; None where there is no memory controller in it."""
    try:
        folder = service_folder(CGROUPS.read_text(), MOUNTS.read_text())
    except OSError:
        return None
    return folder if folder is not None and (folder / "memory.max").exists() else None


def obstacle(folder: Path | None, pids: Sequence[int]) -> str:
    """Why no groups can be made in `folder`, in one line for the operator; "" when they can.

    `pids` are the processes that may be moved: this one and its children.
    """
    if folder is None:
        return "no control group (v2) with a memory controller"
    try:
        if "memory" not in (folder / "cgroup.controllers").read_text().split():
            return f"the memory controller is not enabled for {folder}"
        if not _delegated(folder):
            return f"{folder} is not delegated (systemd: Delegate=yes)"
        if not os.access(folder / "cgroup.procs", os.W_OK) or not os.access(folder, os.W_OK):
            return f"{folder} cannot be written to"
        others = members(folder) - set(pids)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if others:
        return f"others live in {folder} too (process {min(others)})"
    return ""


def members(folder: Path) -> set[int]:
    """The processes of a group itself; those of groups beneath it not counted."""
    return {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}


def _delegated(folder: Path) -> bool:
    for mark in MARKS:
        try:
            return os.getxattr(folder, mark) == b"1"
        except OSError:
            continue
    if not SYSTEMD.exists():
        return True  # a container's: nobody else keeps order here
    user = os.geteuid()  # systemd before 251 gives the folder away and marks it where we cannot see
    return user != 0 and folder.stat().st_uid == user != folder.parent.stat().st_uid


def _beneath(path: str, root: str) -> str | None:
    """`path` relative to `root`, both from the hierarchy's top."""
    if root == "/":
        return path.lstrip("/")
    if path == root or path.startswith(f"{root}/"):
        return path[len(root) :].lstrip("/")
    return None


def _plain(point: str) -> str:
    r"""A path as mountinfo writes it: \040 is a blank."""
    return (
        point.encode().decode("unicode_escape").encode("latin-1").decode()
        if "\\" in point
        else point
    )
