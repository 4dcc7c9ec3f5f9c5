"""SIGKILL of the supervisor before any change to the disk, and of anybody at random under load.

A kill loses nothing that was written, but cuts everything in the middle, writes included.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from sttd.client import Client, SttdError
from tests.support import faults
from tests.support.daemon import daemon
from tests.support.faults import Machine, ViolationError, machine
from tests.support.tally import sweep
from tests.support.waiting import eventually
from tests.support.wav import tone

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)


def kill_and_recover(m: Machine, *, mutant: tuple[str, ...] = (), **cut: object) -> bool:
    """Whether the life was cut before it was over; the invariants hold afterwards."""
    story = faults.tell(m)
    struck = faults.live(m, story, how="kill", writes=True, mutants=mutant, **cut)
    if struck:
        faults.no_orphans(m)
        faults.recover(m, story)
    return struck


@pytest.mark.parametrize("share", range(5))
def test_a_kill_between_two_operations_loses_and_doubles_nothing(share: int) -> None:
    with machine() as m:
        assert kill_and_recover(m, at=25 + share * 41)


@pytest.mark.sweep
@pytest.mark.timeout(6 * 3600)
def test_a_kill_before_every_operation_until_it_survives() -> None:
    """About four seconds an operation, of some 240: a quarter of an hour."""
    with sweep("SIGKILL of the supervisor before every operation until it survives", "lives") as t:
        at, struck = 1, True
        while struck:
            with machine() as m, t.one(f"kill {at}"):
                try:
                    struck = kill_and_recover(m, at=at)
                except (AssertionError, ViolationError) as error:
                    raise AssertionError(f"before {m.struck()!r}: {error}") from error
            at += 1
        assert at > 200


def test_the_checks_turn_red_when_the_recording_is_moved_before_its_row_is_committed() -> None:
    with machine() as m, pytest.raises(ViolationError):
        kill_and_recover(m, mutant=("rename_first",), label=r"^commit ledger .*insert_job", nth=1)


@pytest.mark.parametrize("call", ["fdatasync", "renameat2", "pwrite64"])
def test_a_kill_at_a_system_call_by_strace_loses_nothing(call: str) -> None:
    """The same from outside, with nothing patched: SIGKILL inside the kernel's call."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (apt: strace)")
    with machine() as m:
        m.sttd.start()
        log = m.sttd.home / "strace"
        command = ["strace", "-f", "-o", str(log), "-e", f"trace={call}"]
        command += ["-e", f"inject={call}:signal=SIGKILL:when=3", "-p", str(m.sttd.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            told = tracer.stderr.readline()
            if "attached" not in told:
                tracer.kill()
                pytest.skip(f"strace cannot attach: {told.strip()}")
            story = faults.tell(m)
            assert m.sttd.process is not None
            assert m.sttd.process.wait(30) == -signal.SIGKILL
        faults.recover(m, story)


# -- at random ------------------------------------------------------------------------------------
def family(pid: int) -> list[psutil.Process]:
    """The daemon's descendants: templates, workers, decoders."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def rampage(tmp_path: Path, *, kills: int, files: int, seed: int) -> None:
    """Kill `kills` processes at random while `files` recordings are transcribed."""
    chance = random.Random(seed)
    source = tone(tmp_path / "talk.wav", 0.3)
    sections: dict[str, dict[str, object]] = {
        "pool": {"workers": 3},
        "recycle": {"stall_timeout": "1s", "max_requests": 7},
        # a job that loses ever more workers is quarantined, with its reason: that is no loss
        "retry": {"max_attempts": 100, "backoff": "10ms"},
    }
    with daemon(**sections) as sttd:
        sttd.start()
        for n in range(files):
            sttd.drop(f"f{n}.wav", source, {"options": {"text": f"file {n}", "sleep_s": 0.1}})
        ours: set[int] = set()
        for turn in range(kills):
            family_now = family(sttd.pid)
            ours |= {process.pid for process in family_now}
            if chance.random() < 0.15 or not family_now:
                sttd.kill()
                sttd.start()
                continue
            victim = chance.choice(family_now)
            before = len(sttd.events("worker.spawned", "template.started", "job.started"))
            number = chance.choice(SIGNALS)
            try:
                if number == signal.SIGSTOP and victim.name().endswith(("-t", "python", "python3")):
                    number = signal.SIGKILL  # a stopped template costs ten seconds: tried below
                victim.send_signal(number)
            except psutil.NoSuchProcess:
                continue
            if turn % 3 == 0:  # else the next one comes at once

                def moved(count: int = before) -> bool:
                    names = ("worker.spawned", "template.started", "job.started")
                    return len(sttd.events(*names)) > count or resting(sttd.endpoint)

                eventually(moved, "it goes on", 20)
        eventually(lambda: resting(sttd.endpoint), f"at rest after {kills} kills, seed {seed}", 120)
        eventually(lambda: sttd.leftovers() == [], "nothing is left over")
        assert sttd.stop() == 0
        check(sttd.state, files, source.read_bytes())
        alive = [pid for pid in ours if Path(f"/proc/{pid}").exists() and _is_ours(pid)]
        assert alive == []


def _is_ours(pid: int) -> bool:
    try:
        return b"sttd" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.getppid() != pid
    except OSError:
        return False


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
    rampage(tmp_path, kills=40, files=60, seed=20261121)


@pytest.mark.parametrize("name", ["sttd-engine-t", "sttd-decode-t"])
def test_a_template_that_was_stopped_is_replaced(tmp_path: Path, name: str) -> None:
    source = tone(tmp_path / "talk.wav", 0.3)
    with daemon(pool={"workers": 1, "standby": 0}) as sttd:
        sttd.start()
        sttd.until("worker.ready")
        by_name = {process.name(): process for process in family(sttd.pid)}
        by_name[name].suspend()
        sttd.ctl("recycle")
        gone = sttd.until("template.exited")
        assert "did not answer" in gone["message"]
        sttd.drop("a.wav", source)
        assert sttd.transcript("a")
        assert sttd.stop() == 0


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_a_thousand_random_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    """A quarter of an hour."""
    with sweep("Random kills under load, ten seeds", "kills of anybody") as tried:
        for seed in range(10):
            tried.count += 99
            with tried.one(f"seed {seed}"):
                rampage(tmp_path, kills=100, files=150, seed=seed)
