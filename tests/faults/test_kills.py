"""SIGKILL of the supervisor before any change to the disk, and of anybody at random under load.

A kill loses nothing that was written, but cuts everything in the middle, writes included.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from sttd.client import Client, SttdError
from tests.support import faults
from tests.support.daemon import ROOT, Daemon, daemon
from tests.support.faults import Machine, ViolationError, machine
from tests.support.tally import sweep
from tests.support.waiting import eventually
from tests.support.wav import tone

IN_A_ROW = 4  # lives that survive, before there is no operation left to be killed before
WHOLE = 150  # operations that a whole life has at least, else they are not counted any more
AT_LEAST = 20  # recordings that are not done yet, whenever somebody is killed
# how often who is there is killed; without a template there are no workers for a while
OFTEN = {"supervisor": 2, "template": 1, "worker": 5, "decoder": 4}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)


def kill_and_recover(
    m: Machine, *, mutant: tuple[str, ...] = (), only: tuple[str, ...] = (), **cut: object
) -> bool:
    """Whether the life was cut before it was over; the invariants hold afterwards."""
    story = faults.tell(m, *only)
    struck = faults.live(m, story, how="kill", writes=True, mutants=mutant, **cut)
    if struck:
        faults.no_orphans(m)
        faults.recover(m, story)
    else:
        faults.check(m, story, faults.accepted(m))
    return struck


@pytest.mark.parametrize("share", range(5))
def test_a_kill_between_two_operations_loses_and_doubles_nothing(share: int) -> None:
    with machine() as m:
        assert kill_and_recover(m, at=20 + share * 40)


@pytest.mark.sweep
@pytest.mark.timeout(6 * 3600)
def test_a_kill_before_every_operation_until_it_survives() -> None:
    """About three seconds an operation, of some 200: ten minutes.

    No two lives have quite as many operations: what waits together is committed together. So it
    must survive a few times in a row, and whoever survives has done everything.
    """
    with sweep("SIGKILL of the supervisor before every operation until it survives", "lives") as t:
        at = survived = 0
        while survived < IN_A_ROW:
            at += 1
            with machine() as m, t.one(f"kill {at}"):
                survived += 1
                try:
                    if kill_and_recover(m, at=at):
                        survived = 0
                    else:
                        assert WHOLE < len(m.trace()) < at
                except (AssertionError, ViolationError) as error:
                    survived = 0
                    raise AssertionError(f"before {m.struck()!r}: {error}") from error
        t.notes.append(f"the last {IN_A_ROW} of which survived")


def test_the_checks_turn_red_when_the_recording_is_moved_before_its_row_is_committed() -> None:
    # that one alone: the first row could be of what is submitted, and nothing moved as yet
    only = ("a.wav",)
    with machine() as m, pytest.raises(ViolationError):
        assert kill_and_recover(
            m, mutant=("rename_first",), only=only, label=r"^commit ledger .*insert_job"
        ), "the cut never came by"


# -- at random ------------------------------------------------------------------------------------
def family(pid: int) -> list[psutil.Process]:
    """The daemon's descendants: templates, workers, decoders."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kind_of(process: psutil.Process) -> str:
    """What it is, by the name it gives itself; a template that has only just begun has none."""
    name = process.name()
    if name == "sttd-decoder":
        return "decoder"
    return "worker" if name.startswith("sttd-w") else "template"


class Rampage:
    """A daemon that always has recordings to do, and somebody who kills at random."""

    def __init__(self, sttd: Daemon, source: Path, seed: int) -> None:
        self.machine = Machine(sttd)
        self.sttd = sttd
        self.source = source
        self.chance = random.Random(seed)
        self.dropped = 0
        self.struck: Counter[str] = Counter()  # by victim and signal

    def ended(self) -> int:
        """How many recordings have come to an end, as far as can be seen from outside."""
        state = self.sttd.state
        done = len(list((state / "outbox").glob("*.json")))
        return done + len(list((state / "failed").glob("*.wav")))

    def load(self) -> None:
        """See to it that there is work for longer than until the next kill."""
        ended = self.ended()
        while self.dropped < ended + AT_LEAST:
            text = f"file {self.dropped}"
            options = {"options": {"text": text, "sleep_s": 0.1}}
            self.sttd.drop(f"f{self.dropped}.wav", self.source, options)
            self.dropped += 1

    def kills(self) -> int:
        """How many were killed; who was stopped is not among them."""
        return sum(count for what, count in self.struck.items() if not what.endswith("SIGSTOP"))

    def kill(self) -> None:
        """Kill or stop somebody who is alive."""
        while True:
            self.load()
            there = self._there()
            [kind] = self.chance.choices(list(there), [OFTEN[kind] for kind in there])
            if kind == "supervisor":
                self._kill_supervisor()
                return
            if self._strike(kind, self.chance.choice(there[kind])):
                return

    def _there(self) -> dict[str, list[psutil.Process]]:
        """Who lives, by kind; the supervisor has not ended by itself."""
        process = self.sttd.process
        assert process is not None
        assert process.poll() is None, f"the supervisor ended by itself: {process.returncode}"
        found: dict[str, list[psutil.Process]] = {"supervisor": []}
        for child in family(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.setdefault(kind_of(child), []).append(child)
        return found

    def _kill_supervisor(self) -> None:
        self.sttd.kill()
        self.struck["supervisor SIGKILL"] += 1
        faults.check_partial(self.machine)
        if self.chance.random() < 0.5:  # else the next one starts among those who still die
            faults.no_orphans(self.machine)
        self.start()

    def start(self) -> None:
        self.sttd.start(env={"OF_THE_RAMPAGE_AT": str(self.sttd.state)})  # known by it, see faults

    def _strike(self, kind: str, victim: psutil.Process) -> bool:
        """Whether it was there to be struck."""
        number = self.chance.choice(SIGNALS)
        if number == signal.SIGSTOP and kind == "template":
            number = signal.SIGKILL  # a stopped template costs ten seconds: tried below
        try:
            victim.send_signal(number)
        except psutil.NoSuchProcess:
            return False
        self.struck[f"{kind} {number.name}"] += 1
        return True

    def works(self) -> None:
        """A recording is begun, after this."""
        self.load()
        before = len(self.sttd.events("job.started"))
        eventually(lambda: len(self.sttd.events("job.started")) > before, "it goes on", 20)


def rampage(tmp_path: Path, *, kills: int, seed: int) -> Rampage:
    """Kill `kills` processes at random while recordings are transcribed; none lost, none twice."""
    sections: dict[str, dict[str, object]] = {
        "pool": {"workers": 3},
        "outbox": {"formats": ["json", "txt"]},
        "recycle": {"stall_timeout": "1s", "max_requests": 7},
        # a job that loses ever more workers is quarantined, with its reason: that is no loss
        "retry": {"max_attempts": 100, "backoff": "10ms"},
    }
    with daemon(**sections) as sttd:
        this = Rampage(sttd, tone(tmp_path / "talk.wav", 0.3), seed)
        this.start()
        while this.kills() < kills:
            if this.kills() % 3 == 0:  # else the next kill comes at once
                this.works()
            this.kill()
        over = f"at rest after {kills} kills, seed {seed}"
        eventually(lambda: this.ended() == this.dropped and resting(sttd.endpoint), over, 120)
        eventually(lambda: sttd.leftovers() == [], "nothing is left over")
        assert sttd.stop() == 0
        faults.no_orphans(this.machine)
        check(sttd.state, this.dropped, this.source.read_bytes())
        faults.check_ledger(this.machine, {row["id"]: row for row in faults.rows(this.machine)})
        jobs = [manifest["job_id"] for _, manifest in faults.manifests(this.machine)]
        assert len(jobs) == len(set(jobs))
    return this


def resting(endpoint: str) -> bool:
    try:
        with Client(endpoint, patience_s=2) as client:
            queue = client.status().queue
            return not (queue.queued or queue.deferred or queue.running)
    except SttdError:
        return False


def check(state: Path, files: int, sound: bytes) -> None:
    """Each recording is exactly once either transcribed or failed with a reason; none is lost."""
    for n in range(files):
        manifest = state / "outbox" / f"f{n}.json"
        report = state / "failed" / f"f{n}.wav.error.json"
        assert manifest.exists() != report.exists(), f"f{n}: both, or neither"
        if manifest.exists():
            assert json.loads(manifest.read_bytes())["text"] == f"file {n}"
            assert (state / "done" / f"f{n}.wav").read_bytes() == sound
        else:
            error = json.loads(report.read_bytes())
            assert error["code"] == "quarantined"
            assert error["message"]
            assert (state / "failed" / f"f{n}.wav").read_bytes() == sound
    assert (
        len(list((state / "outbox").glob("*.json"))) + len(list((state / "failed").glob("*.wav")))
        == files
    )


@pytest.mark.sweep
def test_forty_random_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    rampage(tmp_path, kills=40, seed=20261121)


@pytest.mark.parametrize("name", ["sttd-engine-t", "sttd-decode-t"])
def test_a_template_that_was_stopped_is_replaced(tmp_path: Path, name: str) -> None:
    source = tone(tmp_path / "talk.wav", 0.3)
    with daemon(pool={"workers": 1, "standby": 0}) as sttd:
        sttd.start()
        sttd.until("worker.ready")
        # a child that it is just forking bears its name, too: the template is older
        youngest_first = sorted(family(sttd.pid), key=lambda one: -one.pid)
        by_name = {process.name(): process for process in youngest_first}
        by_name[name].suspend()
        by_name["sttd-w-1"].kill()  # one that left in peace would leave its decoder to the next
        gone = sttd.until("template.exited")
        assert "did not answer" in gone["message"]
        sttd.drop("a.wav", source)
        assert sttd.transcript("a")
        assert sttd.stop() == 0


def test_a_worker_that_is_stopped_from_its_first_moment_does_not_outlive_the_daemon(
    tmp_path: Path,
) -> None:
    """Before it has asked the kernel to die with the supervisor; nobody else could end it."""
    (tmp_path / "stopped_engine.py").write_text(
        "import os, signal\n"
        "from tests.support.engines import Echo\n"
        "template = os.getpid()\n"
        "def stop():\n"
        "    if os.getppid() != template:\n"  # not the process between the two
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "os.register_at_fork(after_in_child=stop)\n"
        "class Stopped(Echo):\n"
        "    pass\n"
    )
    with machine(engine={"name": "stopped_engine:Stopped"}) as m:
        m.sttd.start(env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "OF": str(m.sttd.state)})

        def stopped() -> list[psutil.Process]:
            there = family(m.sttd.pid)
            return [each for each in there if each.status() == psutil.STATUS_STOPPED]

        eventually(stopped, "a worker is stopped")
        m.sttd.kill()
        faults.no_orphans(m)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_a_thousand_random_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    """A quarter of an hour."""
    struck: Counter[str] = Counter()
    kills = recordings = 0
    with sweep("Random kills under load, ten seeds", "kills of anybody") as tried:
        for seed in range(10):
            with tried.one(f"seed {seed}"):
                done = rampage(tmp_path, kills=100, seed=seed)
                struck += done.struck
                kills += done.kills()
                recordings += done.dropped
        tried.count = kills
        tried.notes.append(f"{recordings} recordings")
        tried.notes += [f"{count} {what}" for what, count in sorted(struck.items())]
