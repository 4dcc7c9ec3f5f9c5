"""systemd/: the unit as it ships, judged by systemd's own tools and by what the daemon does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sttd.config import Settings
from sttd.core.recycling import RecyclePolicy
from sttd.supervisor.starting import EX_CONFIG, EX_HELD
from tests.support.daemon import ROOT, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

UNITS = ROOT / "systemd"
UNIT = UNITS / "sttd.service"
LOCAL_ENGINE = UNITS / "sttd.service.d" / "local-engine.conf"
CLOSING_S = 30.0  # granted beyond drain and grace
# System calls that the unit refuses and that the daemon can do without, and why it can.
DISPENSABLE = {
    "sched_setscheduler": "libzmq is answered 0 by the unit and nothing happens",
    "chown": "the control socket's group, which Group= has given already",
    "fchown": "SQLite, when it runs as root",
}


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


needs_systemd = needs("systemd-analyze")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def lines(key: str, path: Path = UNIT) -> list[str]:
    """The values of a setting, in order."""
    return re.findall(rf"^{key}=(.*)$", path.read_text(), re.MULTILINE)


def seconds(key: str) -> float:
    (value,) = lines(key)
    return float(value)


@pytest.fixture
def unit(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the unit, alone or with the drop-in; `runs` is a program that exists here."""

    def copy(*, local: bool = False, runs: str = "/bin/true") -> Path:
        path = tmp_path / "sttd.service"
        path.write_text(UNIT.read_text().replace("/opt/sttd/bin/sttd", runs))
        if local:
            folder = tmp_path / "sttd.service.d"
            folder.mkdir()
            shutil.copy(LOCAL_ENGINE, folder)
        return path

    return copy


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_COLORS": "0"},
    )


@needs_systemd
@pytest.mark.parametrize("local", [False, True])
def test_systemd_finds_no_fault_in_the_unit(unit: Callable[..., Path], local: bool) -> None:
    done = analyze("verify", str(unit(local=local)))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_delegation_costs_a_tenth_and_brings_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "sttd.service"
    path.write_text(UNIT.read_text().replace("/opt/sttd/bin/sttd", "/bin/true"))
    (tmp_path / "sttd.service.d").mkdir()
    shutil.copy(UNITS / "sttd.service.d" / "cgroups.conf", tmp_path / "sttd.service.d")
    done = analyze("verify", str(path))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = analyze("security", "--offline=true", "--threshold=13", str(path))
    assert done.returncode == 0, done.stdout


@needs_systemd
@pytest.mark.parametrize(("local", "most"), [(False, 1.2), (True, 0.5)])
def test_the_exposure_stays_within_what_was_promised(
    unit: Callable[..., Path], local: bool, most: float
) -> None:
    threshold = f"--threshold={round(most * 10)}"
    done = analyze("security", "--offline=true", threshold, str(unit(local=local)))
    assert done.returncode == 0, done.stdout


def test_systemd_waits_for_a_drain_as_long_as_the_daemon_does() -> None:
    defaults = RecyclePolicy()
    assert seconds("TimeoutStopSec") == defaults.drain_timeout + defaults.grace + CLOSING_S


def test_folders_are_where_the_defaults_look_for_them() -> None:
    defaults = Settings()
    assert [str(defaults.state_dir)] == [f"/var/lib/{name}" for name in lines("StateDirectory")]
    (runtime,) = lines("RuntimeDirectory")
    assert defaults.control.endpoint.startswith(f"ipc:///run/{runtime}/")
    assert defaults.control.events.startswith(f"ipc:///run/{runtime}/")
    assert lines("Group") == [defaults.control.group]


def test_what_cannot_heal_is_not_restarted_and_one_worker_out_of_memory_stops_nothing() -> None:
    assert lines("RestartPreventExitStatus") == [f"{EX_CONFIG} {EX_HELD}"]
    assert lines("Restart") == ["on-failure"]
    assert (lines("Type"), lines("WatchdogSec")) == (["notify"], ["30"])
    assert lines("OOMPolicy") == ["continue"]
    assert lines("KillMode") == ["mixed"]


def test_no_secret_and_no_core_dump_leaves_the_service() -> None:
    assert lines("LimitCORE") == ["0"]
    for value in lines("LoadCredential"):
        _, _, source = value.partition(":")
        assert not source.startswith("/"), "an absolute path must exist, or the unit does not start"
    assert not [line for line in lines("Environment") if "CREDENTIAL" in line]


def test_a_local_engine_has_no_network() -> None:
    assert lines("PrivateNetwork", LOCAL_ENGINE) == ["yes"]
    assert lines("RestrictAddressFamilies", LOCAL_ENGINE) == ["", "AF_UNIX"]
    assert lines("IPAddressAllow", LOCAL_ENGINE) == [""]
    assert lines("IPAddressDeny", LOCAL_ENGINE) == ["any"]


# -- system calls ------------------------------------------------------------------------------
def members(group: str) -> set[str]:
    """The system calls of one of systemd's groups, groups within it included."""
    done = analyze("syscall-filter", group)
    assert done.returncode == 0, done.stderr
    found: set[str] = set()
    for line in done.stdout.splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            found |= members(name)
        elif name and not name.startswith("#"):
            found.add(name)
    return found


def allowed_calls() -> set[str]:
    """What is left of the unit's SystemCallFilter= lines."""
    allowed: set[str] = set()
    for line in lines("SystemCallFilter"):
        names = line.lstrip("~").split()
        calls = set().union(
            *(members(n) if n.startswith("@") else {n.partition(":")[0]} for n in names)
        )
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def traced_calls(report: Path) -> set[str]:
    """The names in a summary by `strace -c`."""
    rows = report.read_text().splitlines()
    return {row.split()[-1] for row in rows if re.match(r"\s*\d+\.\d+\s", row)} - {"total"}


def traced(report: Path, wrapper: Path) -> Path:
    """A Python that runs the daemon under strace, and everything else as it is."""
    strace = f"strace -D -f -c -qq -o {report}"  # -D: the daemon keeps its pid and its parent
    wrapper.write_text(
        f'#!/bin/sh\n[ "$2" = sttd ] && exec {strace} {sys.executable} "$@"\n'
        f'exec {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


@needs_systemd
@needs("strace")
def test_the_daemon_needs_no_system_call_that_the_unit_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "calls"
    python = traced(report, tmp_path / "python")
    monkeypatch.setattr("tests.support.daemon.PYTHON", str(python))
    wav = tone(tmp_path / "talk.wav", 0.3)
    with daemon(recycle={"max_requests": 1}) as sttd:
        sttd.start()
        for n in range(3):
            sttd.drop(f"f{n}.wav", wav)
        sttd.until("job.succeeded", 3)
        sttd.until("worker.recycled")
        assert sttd.ctl("submit", "--wait", str(wav)).returncode == 0
        assert sttd.stop() == 0
    eventually(lambda: report.exists() and report.read_text().rstrip().endswith("total"))
    made = traced_calls(report)
    assert {"pidfd_send_signal", "fsync", "renameat2"} <= made
    assert made - allowed_calls() <= DISPENSABLE.keys()


MDWE = """
import ctypes, importlib, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, ctypes.c_ulong(1), 0, 0, 0):  # PR_SET_MDWE, Linux 6.3
    sys.exit(77)
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda a, b: 0)
libc.qsort((ctypes.c_int * 4)(4, 3, 2, 1), 4, 4, compare)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_native_libraries_live_where_memory_is_never_both_writable_and_executable() -> None:
    assert lines("MemoryDenyWriteExecute") == ["yes"]
    wanted = ("av", "azure.cognitiveservices.speech", "pocketsphinx", "zmq", "apsw")
    script = (
        f"import importlib.util as u; print(*(n for n in {wanted} if u.find_spec(n.split('.')[0])))"
    )
    here = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        [sys.executable, "-c", MDWE, *here.stdout.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert done.returncode == 0, done.stderr


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Failed" in done.stderr) == (0, False), done.stderr


# -- users and folders -------------------------------------------------------------------------
@needs_root
@needs("systemd-sysusers")
@needs("systemd-tmpfiles")
def test_whoever_may_drop_sees_nothing_else_and_touches_no_file_of_others(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    run("systemd-sysusers", f"--root={root}", str(UNITS / "sttd.sysusers"))
    passwd = (root / "etc/passwd").read_text()
    uid, _ = re.findall(r"^sttd:x:(\d+):(\d+):", passwd, re.MULTILINE)[0]
    groups = dict(re.findall(r"^([\w-]+):x:(\d+):", (root / "etc/group").read_text(), re.MULTILINE))
    # systemd-tmpfiles asks this machine, not the root it is given, for the names in an ACL
    files = root / "files.conf"
    acl = (UNITS / "sttd.tmpfiles").read_text()
    acl = acl.replace(":user:sttd:", f":user:{uid}:")
    files.write_text(acl.replace(":group:sttd-drop:", f":group:{groups['sttd-drop']}:"))
    run("systemd-tmpfiles", f"--root={root}", "--create", str(files))
    assert re.search(r"^sttd-drop:x:\d+:sttd$", (root / "etc/group").read_text(), re.MULTILINE)
    state, inbox = root / "var/lib/sttd", root / "var/lib/sttd/inbox"
    assert oct(state.stat().st_mode & 0o7777) == "0o" + lines("StateDirectoryMode")[0].lstrip("0")
    assert oct(inbox.stat().st_mode & 0o7777) == "0o3770"
    assert str(inbox.stat().st_gid) == groups["sttd-drop"]
    assert "system.posix_acl_default" in os.listxattr(inbox)
    secrets = (root / "etc/sttd/credentials").stat()
    assert (oct(secrets.st_mode & 0o777), secrets.st_uid) == ("0o750", 0)
    assert str(secrets.st_gid) == groups["sttd"]
