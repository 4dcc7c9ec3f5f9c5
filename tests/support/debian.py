"""The Debian package, a newer one, and a bare Debian to install them into.

STTD_DEB names a package made earlier, STTD_DEBIAN_TREE a tree of debootstrap's to use or to keep;
without them both are made, for which the machine needs its package archive and minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.support import machine
from tests.support.daemon import ROOT

PACKAGING = ROOT / "packaging" / "debian"
TOOLS = ("dpkg-deb", "dpkg-shlibdeps", "debootstrap")
# What the package depends on beyond a bare system, so that installing needs no network.
WITH = "systemd,systemd-sysv,dbus,python3,ca-certificates"
NEWER = "99.0"


def unavailable() -> str:
    """Why there can be no installed package here, or ""."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else machine.unavailable()


def package(folder: Path) -> Path:
    """The package of this source tree."""
    if named := os.environ.get("STTD_DEB"):
        return Path(named)
    settings = {"DIST": str(folder), "COMPRESS": "zstd"}
    _run(str(ROOT / "packaging" / "deb.sh"), env=settings)
    (made,) = folder.glob("*.deb")
    return made


def newer(deb: Path, folder: Path) -> Path:
    """The same package with a higher version; the program says that version, too."""
    inside = folder / "newer"
    _run("dpkg-deb", "-R", str(deb), str(inside))
    control = inside / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {NEWER}-1", control.read_text()))
    (program,) = inside.glob("opt/sttd/lib/python3.*/site-packages/sttd/__init__.py")
    said = re.sub(r"__version__ = .*", f'__version__ = "{NEWER}"', program.read_text())
    program.write_text(said)
    made = folder / "newer.deb"
    _run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b", str(inside), str(made))
    shutil.rmtree(inside)
    return made


def tree(folder: Path) -> Path:
    """A bare Debian of this machine's release."""
    place = Path(os.environ.get("STTD_DEBIAN_TREE") or folder / "debian")
    if not (place / "usr/bin/dpkg").exists():
        release = Path("/etc/os-release").read_text()
        (codename,) = re.findall(r"(?m)^VERSION_CODENAME=(\w+)", release)
        _run("debootstrap", "--variant=minbase", f"--include={WITH}", codename, str(place))
    return place


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
