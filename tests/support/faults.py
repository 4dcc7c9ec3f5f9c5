"""Disks that lose power, fill up or fail, a daemon upon them, and the invariants after recovery.

The story that is cut: two durable recordings (one with a sidecar, in a folder), one whose bytes
the uploader never synced, one that fails, and one submitted over the control socket.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec
import psutil
import pytest

from sttd.client import Client, SttdError
from tests.support.daemon import ROOT, Daemon
from tests.support.faulting import Plan
from tests.support.waiting import eventually
from tests.support.wav import tone

FINAL = ("succeeded", "failed", "cancelled", "withdrawn")
KEY = "submitted-once"


def require_mounts() -> None:
    """Skip where file systems cannot be made and mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount file systems")
    for tool in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt: e2fsprogs, util-linux)")


class Disk:
    """An ext4 in a file, mounted at `mount`; nothing reaches it before it is synced."""

    def __init__(
        self,
        image: Path,
        mount: Path,
        size: str = "256M",
        *,
        options: str = "",
        features: str = "",
    ) -> None:
        self.image = image
        self.mount = mount
        # nothing is written behind our back: no commit by the clock, no flush at a rename
        self._options = options or "loop,commit=300,noauto_da_alloc"
        _run("truncate", "-s", size, str(image))
        more = ("-O", features) if features else ()
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", *more, str(image))
        self.attach()

    def attach(self) -> None:
        """Mount it, alive: a copy that lost its power lives on while another mount namespace
        (a container that was started meanwhile) holds it, and would be found again.
        """
        eventually(self._attach, f"{self.mount} is mounted afresh", 120)

    def _attach(self) -> bool:
        self.mount.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "ext4", "-o", self._options, str(self.image), str(self.mount)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"mount: {done.stderr.strip()}")
        probe = self.mount / "is it alive"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.throw_away()
            return False
        return True

    def detach(self) -> None:
        """As soon as nobody uses it any more; fine when it is not mounted."""

        def gone() -> bool:
            if not os.path.ismount(self.mount):
                return True
            return subprocess.run(["umount", str(self.mount)], check=False).returncode == 0

        eventually(gone, f"{self.mount} is unmounted")

    def throw_away(self) -> None:
        """At the end, whatever its state."""
        while os.path.ismount(self.mount):
            subprocess.run(["umount", "-l", str(self.mount)], check=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@dataclass
class Machine:
    """A daemon on disks of its own. `plan_folder` and the log survive every fault."""

    sttd: Daemon
    disks: list[Disk] = field(default_factory=list)

    @property
    def plan_folder(self) -> Path:
        return self.sttd.home / "faults"

    def environment(self, **plan: Any) -> dict[str, str]:
        """What makes a daemon suffer the plan's faults."""
        shutil.rmtree(self.plan_folder, ignore_errors=True)
        self.plan_folder.mkdir()
        whole = Plan(
            folder=str(self.plan_folder),
            root=str(self.sttd.state),
            disks=tuple(str(disk.mount) for disk in self.disks),
            **plan,
        )
        faulty = ROOT / "tests" / "support" / "faulty"
        # the harness puts PYTHONPATH first, and the environment over it
        return {
            "PYTHONPATH": f"{faulty}:{ROOT}",
            "STTD_TEST_FAULTS": msgspec.json.encode(whole).decode(),
        }

    def trace(self) -> list[str]:
        """The labels of the operations so far."""
        text = (self.plan_folder / "trace").read_text()
        return [line.partition(" ")[2] for line in text.splitlines()]

    def struck(self) -> str:
        """The label of the operation that was cut."""
        path = self.plan_folder / "struck"
        return path.read_text() if path.exists() else ""

    def reboot(self) -> None:
        """Unmount what lost its power, and mount what is left on the disks."""
        for disk in reversed(self.disks):
            disk.detach()
        for disk in self.disks:
            disk.attach()


@contextlib.contextmanager
def machine(
    *, disk: str | None = None, ledger_disk: bool = False, options: str = "", **sections: Any
) -> Iterator[Machine]:
    """A daemon that is not yet started; on a loop-mounted ext4 of size `disk` if that is given."""
    with tempfile.TemporaryDirectory(prefix="sttd-f") as home:
        sttd = Daemon(Path(home), **{**QUICK, **sections})
        made = Machine(sttd)
        try:
            if disk is not None:
                require_mounts()
                made.disks.append(Disk(Path(home, "disk"), sttd.state, disk, options=options))
                if ledger_disk:
                    place = sttd.state / "ledger"
                    made.disks.append(Disk(Path(home, "disk-2"), place, "128M"))
            yield made
        finally:
            sttd.clean_up()
            for one in reversed(made.disks):
                one.throw_away()


QUICK: dict[str, dict[str, object]] = {
    "inbox": {"settle": 0, "rescan": "1s", "empty_grace": "1h"},
    "outbox": {"formats": ["json", "txt"]},
    "pool": {"workers": 1, "standby": 0},
}


# -- the story ------------------------------------------------------------------------------------
@dataclass
class Story:
    """What was given to the daemon. Made before it starts; `sounds` by name in the inbox."""

    sounds: dict[str, bytes] = field(default_factory=dict)
    synced: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    submitted: bytes = b""
    key_job: str | None = None  # the job that was acknowledged to the client

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.sounds[name]).hexdigest()


def tell(m: Machine, *only: str) -> Story:
    """Drop everything (or `only` these), durably but for one recording that nobody synced."""
    inbox = m.sttd.state / "inbox"
    (inbox / "b").mkdir(parents=True)
    _run("sync", "-f", str(inbox))  # this file system alone: others may be waiting for a cut
    story = Story()
    drops: list[tuple[str, float, dict[str, object] | None]] = [
        ("a.wav", 0.20, None),
        ("b/c.wav", 0.25, {"options": {"text": "said in the folder"}}),
        ("bad.wav", 0.21, {"options": {"raise": "invalid", "message": "no speech in it"}}),
        ("wet.wav", 1.50, None),
    ]
    for name, seconds, options in drops:
        if only and name not in only:
            continue
        source = tone(m.sttd.home / "sound.wav", seconds)
        sound = source.read_bytes()
        m.sttd.drop(name, source, options)
        story.sounds[name] = sound
        if name != "wet.wav":
            story.synced.add(name)
            _run("sync", "-f", str(inbox))
    story.failing.add("bad.wav")
    if not only or "submitted.wav" in only:
        story.submitted = tone(m.sttd.home / "submitted.wav", 0.3).read_bytes()
    return story


def submit(m: Machine, story: Story) -> bool:
    """Submit; what is acknowledged once is acknowledged for ever under the same id."""
    client = Client(m.sttd.endpoint, patience_s=3, restart_s=3)
    with contextlib.suppress(SttdError, OSError), client:
        job = client.submit(story.submitted, name="submitted.wav", key=KEY).job
        assert story.key_job in (None, job), "I10: the key gives another job after the fault"
        story.key_job = job
        return True
    return False


def live(m: Machine, story: Story, **plan: Any) -> bool:
    """One life under faults, until it is struck (True) or everything is at rest (False)."""
    sttd = m.sttd
    sttd.start(wait=False, env=m.environment(**plan))
    assert sttd.process is not None
    process, pid = sttd.process, sttd.process.pid

    def ready() -> bool:
        return process.poll() is not None or any(
            event["pid"] == pid for event in sttd.events("daemon.ready")
        )

    eventually(ready, "it is ready or struck")
    return live_on(m, story)


def live_on(m: Machine, story: Story) -> bool:
    """The rest of a life that is ready, or was struck already."""
    process = m.sttd.process
    assert process is not None
    if story.submitted and process.poll() is None:
        submit(m, story)
    eventually(lambda: process.poll() is not None or at_rest(m, story), "struck, or at rest")
    died = process.poll() is not None
    if not died:
        assert m.sttd.stop() in (0, -signal.SIGKILL) or m.struck()
        died = process.returncode != 0
    return died or bool(m.struck())


def at_rest(m: Machine, story: Story) -> bool:
    """Whether nothing is left to do, as far as files can tell."""
    state = m.sttd.state
    try:
        if (state / "spool").exists() and m.sttd.leftovers():
            return False
        waiting = [
            name
            for name in story.sounds
            if (state / "inbox" / name).exists() and (state / "inbox" / name).stat().st_size
        ]
        return not waiting and all(row["state"] in FINAL and row["disposed"] for row in rows(m))
    except (OSError, apsw.Error):
        return False


def rows(m: Machine) -> list[dict[str, Any]]:
    """The ledger's rows, read beside the daemon."""
    path = m.sttd.state / "ledger" / "sttd.db"
    if not path.exists():
        return []
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(2000)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        columns = "id, name, kind, state, attempt, token, outputs, original, disposed, "
        columns += "error_code, error_message, key, sha256"
        found = connection.execute(f"select {columns} from job").fetchall()
        return [dict(zip(columns.split(", "), row, strict=True)) for row in found]
    finally:
        connection.close()


# -- what must hold -------------------------------------------------------------------------------
class ViolationError(Exception):
    """An invariant does not hold; the message begins with its number."""


def accepted(m: Machine) -> dict[str, str]:
    """The jobs that were told to be accepted, by the log, which survives: id -> name."""
    return {event["job"]: event["source"] for event in m.sttd.events("job.accepted")}


def recover(m: Machine, story: Story, *, deadline_s: float = 40.0, **plan: Any) -> None:
    """Another life, without faults, until everything is at rest; then all invariants."""
    before = accepted(m)
    check_partial(m)
    sttd = m.sttd
    if plan:  # the mutants must live through the recovery as well
        sttd.start(env=m.environment(**plan))
    else:
        sttd.start()
    if story.submitted:
        eventually(lambda: submit(m, story), "what is submitted is acknowledged")
    try:
        eventually(lambda: at_rest(m, story), "at rest", deadline_s)
    except AssertionError:
        raise ViolationError(f"I1: never at rest: {sttd.leftovers()} {rows(m)}") from None
    if sttd.stop() != 0:
        raise ViolationError(f"the daemon failed: {sttd.log_path.read_text()[-800:]}")
    check(m, story, before)


def check(m: Machine, story: Story, before: Mapping[str, str]) -> None:
    """All invariants, with the daemon stopped. `before`: accepted before the fault."""
    by_id = {row["id"]: row for row in rows(m)}
    for job, name in before.items():
        _must(job in by_id, f"I1: {name} was accepted as {job} and is unknown")
        wish = "failed" if name in story.failing else "succeeded"
        got = by_id[job]["state"]
        _must(got == wish, f"I1: {name}, accepted as {job}, is {got}")
    check_ledger(m, by_id)
    found = manifests(m)
    _check_transcripts(m, story, by_id, found)
    _check_inbox(m, story, by_id)
    _must(m.sttd.leftovers() == [], f"I9: left over: {m.sttd.leftovers()}")


def check_ledger(m: Machine, by_id: Mapping[str, dict[str, Any]]) -> None:
    """What the ledger alone tells: it is whole, and each job is at an end that has a reason."""
    connection = apsw.Connection(str(m.sttd.state / "ledger" / "sttd.db"))
    finding = connection.execute("pragma integrity_check").fetchall()
    connection.close()
    _must(finding == [("ok",)], f"I11: {finding}")
    starts: dict[str, int] = {}
    for event in m.sttd.events("job.started"):
        starts[event["job"]] = starts.get(event["job"], 0) + 1
    for job, row in by_id.items():
        _must(row["state"] in FINAL, f"I9: {job} is {row['state']}")
        _must(row["attempt"] >= starts.get(job, 0), f"I6: {job} was started more than counted")
        told = row["error_code"] and row["error_message"]
        _must(row["state"] != "failed" or told, f"I13: {job} failed without a reason")


def _check_transcripts(
    m: Machine, story: Story, by_id: Mapping[str, dict[str, Any]], found: list[tuple[Path, Any]]
) -> None:
    outbox = m.sttd.state / "outbox"
    jobs = [manifest["job_id"] for _, manifest in found]
    _must(len(set(jobs)) == len(jobs), f"I3: a job has two transcripts: {jobs}")
    for path, manifest in found:
        row = by_id.get(manifest["job_id"])
        _must(row is not None and row["state"] == "succeeded", f"I4: {path} of {row}")
        assert row is not None
        _must(row["sha256"] == manifest["source"]["sha256"], f"I4: {path} is of other audio")
        said, counted = manifest["attempts"], row["attempt"]
        _must(said == counted, f"published by attempt {said}, and run again as {counted}")
    sums = sorted(manifest["source"]["sha256"] for _, manifest in found)
    names = [name for name in story.sounds if name not in story.failing]
    wanted = [story.digest(name) for name in names if name in story.synced]
    if story.submitted:
        wanted.append(hashlib.sha256(story.submitted).hexdigest())
    wet = [name for name in names if name not in story.synced]
    # lost or damaged by its uploader, unless it was accepted
    wanted += [story.digest(name) for name in wet if story.digest(name) in sums]
    _must(sums == sorted(wanted), f"I2: transcripts of {sums}, wanted {sorted(wanted)}")
    for row in by_id.values():
        if row["state"] == "succeeded":
            outputs = [os.fsdecode(name) for name in bytes(row["outputs"]).split(b"\0") if name]
            _must(bool(outputs), f"I4: {row['id']} has no outputs")
            for output in outputs:
                _must((outbox / output).exists(), f"I4: {output} of a done job is not there")


def _check_inbox(m: Machine, story: Story, by_id: Mapping[str, dict[str, Any]]) -> None:
    state = m.sttd.state
    done = _sums(state / "done")
    failed = _sums(state / "failed")
    for name in story.synced:
        place = failed if name in story.failing else done
        _must(place.count(story.digest(name)) == 1, f"I2: the original of {name} is not put away")
    for path in (state / "failed").rglob("*.error.json"):
        try:
            report = json.loads(path.read_bytes())
        except ValueError:
            raise ViolationError(f"I13: {path} is no whole report") from None
        _must(bool(report["message"]), f"I13: {path} gives no reason")
    named = {os.fsdecode(row["name"]) for row in by_id.values() if row["state"] != "withdrawn"}
    for name in story.synced:
        _must(name in named, f"I2: no job has the name {name}")


def _sums(folder: Path) -> list[str]:
    return [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    ]


def manifests(m: Machine) -> list[tuple[Path, Any]]:
    """All published manifests; each must be whole, and its text beside it."""
    found = []
    outbox = m.sttd.state / "outbox"
    for path in sorted(outbox.rglob("*.json")):
        if ".tmp" in path.relative_to(outbox).parts:
            continue
        try:
            manifest = json.loads(path.read_bytes())
        except ValueError:
            raise ViolationError(f"I3: {path} is no whole manifest") from None
        text = path.with_suffix(".txt")
        _must(text.exists() and bool(text.read_bytes()), f"I3: {text} is missing or empty")
        found.append((path, manifest))
    return found


def check_partial(m: Machine) -> None:
    """I3 right after the fault: what is visible is whole, before anybody tidies up."""
    outbox = m.sttd.state / "outbox"
    if not outbox.exists():
        return
    manifests(m)
    for path in outbox.rglob("*.txt"):
        if ".tmp" not in path.relative_to(outbox).parts:
            _must(bool(path.read_bytes()), f"I3: {path} is empty")


def _must(true: bool, message: str) -> None:
    if not true:
        raise ViolationError(message)


def no_orphans(m: Machine) -> None:
    """Nobody of an earlier life of this daemon runs any more: their environment names its state."""
    needle = str(m.sttd.state)

    left: list[str] = []

    def gone() -> bool:
        left.clear()
        for process in psutil.process_iter(["pid", "name", "status", "ppid", "environ"]):
            about = process.info
            if any(needle in value for value in (about.pop("environ") or {}).values()):
                left.append(str(about))
        return not left

    try:
        eventually(gone, "", 10)
    except AssertionError:
        raise ViolationError(f"orphans of {needle}: {', '.join(left)}") from None
