"""A Linux kernel of our own as an ordinary program: User-mode Linux, its root this machine's.

For what this machine's kernel does not offer: control groups (v2) with a memory controller. Nothing
of the machine is changed; what is written goes to memory. Debian's package is `user-mode-linux`.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.daemon import ROOT

KERNEL = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
OVERLAY = "kernel/fs/overlayfs/overlay.ko"  # for containers in it
DONE = "pytest has ended with"

BOOT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
{python} -c '{insert}' {modules}
mount -t tmpfs -o mode=1777 tmpfs /tmp
ip link set lo up
cd {root}
{python} -m pytest -q -x -p no:randomly -p no:cacheprovider -o timeout=0 {arguments}
echo {done} $?
halt -f
"""
# There is no insmod everywhere: finit_module(2) by its number on x86_64.
INSERT = (
    "import ctypes, os, sys\n"
    "for path in sys.argv[1:]:\n"
    '    ctypes.CDLL(None).syscall(313, os.open(path, os.O_RDONLY), b"", 0)\n'
)


def unavailable() -> str:
    """Why there is no such kernel here, or ""."""
    return "" if shutil.which(KERNEL) else f"{KERNEL} is not installed (Debian: user-mode-linux)"


def pytest_in_it(folder: Path, *arguments: str, timeout_s: float = 280.0) -> tuple[int | None, str]:
    """Run pytest in the other kernel, as root: its exit code and everything that was printed.

    `folder` lies on a file system that the root of this machine shows.
    """
    boot = folder / "boot"
    modules = " ".join(str(path) for path in MODULES.glob(f"*/{OVERLAY}"))
    text = BOOT.format(
        python=sys.executable,
        insert=INSERT,
        modules=modules,
        root=ROOT,
        arguments=shlex.join(arguments),
        done=DONE,
    )
    boot.write_text(text)
    boot.chmod(0o755)
    command = (KERNEL, "quiet", "mem=2500M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/")
    done = subprocess.run(
        [*command, "ro", f"init={boot}", "con=null", "con0=fd:0,fd:1", f"uml_dir={folder}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
        check=False,
    )
    printed = done.stdout.decode(errors="replace")
    _, found, code = printed.rpartition(DONE)
    return (int(code.split()[0]) if found else None), printed
