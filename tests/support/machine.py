"""A real systemd in a container of our own: namespaces, an overlay over this machine's root.

Or over another tree: then with nothing of sttd in it, for a package to be installed.

Nothing of the machine is changed: what the container writes goes to a tmpfs, /proc/sys is
read-only, and everything is gone with its first process. Needs root and a cgroup v2 hierarchy.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.daemon import ROOT
from tests.support.waiting import eventually

SYSTEMD = "/lib/systemd/systemd"
SPACES = ("-m", "-p", "-u", "-i", "-C", "-r", "-w")  # of nsenter: all but the network
PROGRAMS = ("unshare", "nsenter", "pivot_root", "systemd-sysusers", "runuser", "useradd")
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"

# Runs in new namespaces; $H is the container's folder, $R its root, the rest comes by environment.
BEFORE = """\
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs $H/over -o size=$ROOM
mkdir $H/over/upper $H/over/work
mount -t overlay overlay -o lowerdir=$TREE,upperdir=$H/over/upper,workdir=$H/over/work $R
mount -t proc proc $R/proc
mount --bind $R/proc/sys $R/proc/sys
mount -o remount,ro,bind $R/proc/sys
mount -t sysfs -o ro sysfs $R/sys
mount -t cgroup2 cgroup2 $R/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs $R/dev
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty $R/dev/
mkdir $R/dev/shm $R/dev/pts
mount -t tmpfs tmpfs $R/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts $R/dev/pts
ln -s pts/ptmx $R/dev/ptmx
ln -s /proc/self/fd $R/dev/fd
mount -t tmpfs -o mode=755 tmpfs $R/run
mount -t tmpfs tmpfs $R/tmp
rm -rf $R/etc/systemd/system/*.wants $R/etc/sttd
mkdir -p $R/var/lib/sttd
mount --bind $H/state $R/var/lib/sttd
"""
FROM_THIS_TREE = """\
mkdir -p $R/opt/python $R/opt/src $R/opt/sttd/bin $R/opt/sttd/$SITE
mount --bind $PREFIX $R/opt/python
mount --bind $PACKAGES $R/opt/sttd/$SITE
mount --bind $SOURCE $R/opt/src
ln -s /opt/python/bin/$PYTHON $R/opt/sttd/bin/python
printf 'home = /opt/python/bin\\ninclude-system-site-packages = false\\n' > $R/opt/sttd/pyvenv.cfg
for program in sttd:sttd.cli sttctl:sttd.ctl.main; do
  printf '#!/opt/sttd/bin/python\\nfrom %s import main\\nmain()\\n' ${program#*:} \\
    > $R/opt/sttd/bin/${program%%:*}
  chmod 755 $R/opt/sttd/bin/${program%%:*}
done
mkdir -p $R/etc/sysusers.d $R/etc/tmpfiles.d $R/etc/sttd $R/etc/credstore
cp $SOURCE/systemd/sttd.service $R/etc/systemd/system/
cp $SOURCE/systemd/sttd.sysusers $R/etc/sysusers.d/sttd.conf
cp $SOURCE/systemd/sttd.tmpfiles $R/etc/tmpfiles.d/sttd.conf
echo PYTHONPATH=/opt/src > $R/etc/sttd/sttd.env
"""
AFTER = """\
cd $R
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
mount --make-rshared /
exec env -i container=sttd PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
  /lib/systemd/systemd --unit=basic.target --show-status=0
"""


def unavailable() -> str:
    """Why there can be no container here, or ""."""
    if os.geteuid() != 0:
        return "only root makes namespaces"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or not os.path.exists(SYSTEMD):
        return f"not installed: {', '.join(missing) or 'systemd'}"
    if _hierarchy() is None:
        return "no cgroup v2 hierarchy is mounted"
    return ""


def _hierarchy() -> Path | None:
    found = re.search(r"^\S+ (\S+) cgroup2 rw", Path("/proc/mounts").read_text(), re.MULTILINE)
    return Path(found[1]) if found else None


class Container:
    """A booted systemd; a context manager that ends it.

    Over this machine's root with sttd from this source tree; over another `tree` with none. The
    folder `state` is /var/lib/sttd inside.
    """

    def __init__(self, home: Path, tree: Path | None = None) -> None:
        self.home = home
        self._tree = tree
        self.state = home / "state"
        hierarchy = _hierarchy()
        assert hierarchy is not None
        self._cgroup = hierarchy / f"sttd-test-{os.getpid()}"

    def __enter__(self) -> Self:
        for folder in ("root", "over", "state"):
            (self.home / folder).mkdir()
        ours = FROM_THIS_TREE if self._tree is None else ""
        (self.home / "boot").write_text(BEFORE + ours + AFTER)
        self._cgroup.mkdir()
        join = f"echo $$ > {self._cgroup}/cgroup.procs; exec unshare"
        spaces = "--mount --pid --fork --uts --ipc --cgroup --kill-child"
        self._log = (self.home / "log").open("wb")
        self._process = subprocess.Popen(
            ["sh", "-c", f"{join} {spaces} sh {self.home}/boot"],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            env={
                "PATH": os.environ["PATH"],
                "H": str(self.home),
                "TREE": str(self._tree or "/"),
                "ROOM": "256m" if self._tree is None else "2g",
                "R": str(self.home / "root"),
                "PREFIX": sys.base_prefix,
                "PACKAGES": f"{sys.prefix}/{SITE}",
                "PYTHON": f"python{sys.version_info.major}.{sys.version_info.minor}",
                "SITE": SITE,
                "SOURCE": str(ROOT),
            },
        )
        try:
            eventually(self._booted, "systemd has booted", 60)
            # out of the way: a group with processes in it hands no controller to those beneath
            (self._cgroup.parent / "cgroup.procs").write_text(str(self._process.pid))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _booted(self) -> bool:
        assert self._process.poll() is None, (self.home / "log").read_text()
        if self._init() is None:
            return False
        state = self.attempt("systemctl", "is-system-running").stdout.strip()
        return state in {"running", "degraded"}

    def _init(self) -> int | None:
        """The pid of the container's first process."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None

    def _end(self) -> None:
        init = self._init() if self._process.poll() is None else None
        with contextlib.suppress(ProcessLookupError):
            os.kill(init or self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        eventually(self._remove_cgroups, "the container's control groups are empty")

    def _remove_cgroups(self) -> bool:
        try:
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                os.rmdir(folder)
        except OSError:
            return False
        return True

    def attempt(
        self, *command: str, text: str | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; it may fail."""
        return subprocess.run(
            ["nsenter", "-t", str(self._init()), *SPACES, *command],
            capture_output=True,
            text=True,
            input=text,
            check=False,
            timeout=timeout_s,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )

    def run(self, *command: str, text: str | None = None, timeout_s: float = 60) -> str:
        """Standard output of a command inside that must succeed."""
        done = self.attempt(*command, text=text, timeout_s=timeout_s)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """A file inside."""
        folder = os.path.dirname(path)
        script = f"mkdir -p {folder} && cat > {path} && chmod {mode} {path}"
        self.run("sh", "-c", script, text=text)

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.run("systemctl", "show", "-p", name, "--value", "sttd").strip()

    def sttctl(self, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """sttctl as a user."""
        command = ("env", "PYTHONPATH=/opt/src", "/opt/sttd/bin/sttctl", *arguments)
        return self.attempt("runuser", "-u", user, "--", *command)

    def journal(self) -> str:
        """What the service has logged."""
        return self.attempt("journalctl", "-u", "sttd", "-o", "cat", "--no-pager").stdout


@contextlib.contextmanager
def container(home: Path, tree: Path | None = None) -> Iterator[Container]:
    """A container for the length of a block."""
    with Container(home, tree) as one:
        yield one
