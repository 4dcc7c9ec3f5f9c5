"""The unit as it ships, run by a real systemd: what it grants, refuses, watches and restarts."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.speech_service.behaviour import Access
from tests.speech_service.marks import marked_pcm
from tests.speech_service.running import running_service
from tests.speech_service.server import SpeechService
from tests.support.daemon import ROOT, toml
from tests.support.machine import Container, container, unavailable
from tests.support.waiting import eventually
from tests.support.wav import tone

pytestmark = [
    pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "-"),
    pytest.mark.timeout(300),
]

INBOX = "/var/lib/sttd/inbox"
CONFIG = '[inbox]\nsettle = 0\n\n[limits]\nmin_free_disk = 0\n\n[engine]\nname = "{engine}"\n'
KEY = "a-secret-that-nobody-may-see"


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    home = tmp_path_factory.mktemp("machine")
    with container(home) as machine:
        tone(home / "state" / "talk.wav", 0.5)
        for user, group in (("sender", "sttd-drop"), ("colleague", "sttd"), ("stranger", "")):
            groups = ["-G", group] if group else []
            machine.run("useradd", *groups, user)
        yield machine


@pytest.fixture
def machine(booted: Container) -> Iterator[Container]:
    """The container with a fresh service on the engine `drill`."""
    booted.write("/etc/sttd/sttd.toml", CONFIG.format(engine="drill"))
    booted.attempt("systemctl", "reset-failed", "sttd")
    booted.run("systemctl", "start", "sttd")
    yield booted
    booted.attempt("systemctl", "stop", "sttd")
    booted.run("sh", "-c", "rm -rf /etc/systemd/system/sttd.service.d; systemctl daemon-reload")


def drop(machine: Container, name: str, user: str = "sender") -> None:
    machine.run("runuser", "-u", user, "--", "cp", "/var/lib/sttd/talk.wav", f"{INBOX}/{name}")


def transcript(machine: Container, stem: str) -> Path:
    path = machine.state / "outbox" / f"{stem}.json"
    eventually(path.exists, f"{stem} is transcribed\n{machine.journal()[-3000:]}", 60)
    return path


def drop_long(machine: Container, name: str, sleep_s: float) -> None:
    """A recording that takes so long, a phrase every half second."""
    options = {"segments": round(2 * sleep_s), "sleep_s": sleep_s}
    machine.write(f"{INBOX}/{name}.json", json.dumps({"options": options}))
    drop(machine, name)


def under_way(machine: Container, *names: str) -> None:
    """Wait until the jobs have phrases that must not be lost."""

    def look() -> bool:
        listed = jobs(machine)
        found = [listed.get(name, {}) for name in names]
        journals = [f"{machine.state}/spool/*/{job.get('job')}/segments.jsonl" for job in found]
        return all(
            any(path.stat().st_size for path in Path("/").glob(journal[1:])) for journal in journals
        )

    eventually(look, f"{names} have phrases", 60)


def jobs(machine: Container) -> dict[str, dict[str, Any]]:
    """Every job by its recording's name."""
    listed = json.loads(machine.sttctl("root", "jobs", "--json").stdout)["jobs"]
    return {job["source"]["name"]: job for job in listed}


def test_what_a_sender_drops_is_transcribed_and_others_may_do_no_more_than_they_should(
    machine: Container,
) -> None:
    assert machine.show("ActiveState") == "active"
    drop(machine, "mine.wav")
    private = f"umask 077; mkdir {INBOX}/deep"  # the inbox's default ACL knows better
    machine.run("runuser", "-u", "sender", "--", "sh", "-c", private)
    drop(machine, "deep/mine.wav")
    transcript(machine, "mine")
    transcript(machine, "deep/mine")
    for user in ("sender", "stranger"):
        assert machine.sttctl(user, "status").returncode != 0
        assert machine.attempt("runuser", "-u", user, "--", "ls", "/var/lib/sttd/outbox").returncode
    assert machine.attempt("runuser", "-u", "stranger", "--", "ls", INBOX).returncode
    assert machine.sttctl("colleague", "status").returncode == 0
    assert machine.sttctl("colleague", "drain").returncode == 1
    assert machine.sttctl("root", "drain").returncode == 0
    assert machine.sttctl("root", "resume").returncode == 0


def test_a_file_that_another_user_still_writes_is_left_alone(machine: Container) -> None:
    held = machine.state / "inbox" / "held.wav"
    script = f"exec 5> {INBOX}/held.wav; cat /var/lib/sttd/talk.wav >&5; exec sleep infinity"
    machine.run("systemd-run", "--unit=writer", "--uid=sender", "sh", "-c", script)
    whole = (machine.state / "talk.wav").stat().st_size
    eventually(lambda: held.exists() and held.stat().st_size == whole)
    drop(machine, "after.wav")
    transcript(machine, "after")
    assert not (machine.state / "outbox" / "held.json").exists()
    assert held.exists()
    machine.run("systemctl", "stop", "writer")
    transcript(machine, "held")


def test_it_is_reloaded_restarted_after_a_kill_and_stopped_in_order(machine: Container) -> None:
    machine.run("systemctl", "reload", "sttd")
    assert "config.reloaded" in machine.journal()
    before = machine.show("MainPID")
    machine.run("kill", "-9", before)
    eventually(
        lambda: machine.show("ActiveState") == "active" and machine.show("MainPID") != before
    )
    drop(machine, "again.wav")
    transcript(machine, "again")
    machine.run("systemctl", "stop", "sttd")
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")


def test_a_loop_that_no_longer_turns_is_replaced(machine: Container) -> None:
    quick = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n"
    machine.write("/etc/systemd/system/sttd.service.d/quick.conf", quick)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "sttd")
    before = machine.show("MainPID")
    machine.run("kill", "-STOP", before)
    eventually(
        lambda: machine.show("ActiveState") == "active" and machine.show("MainPID") != before,
        "the watchdog has replaced it",
        60,
    )
    assert "Watchdog timeout" in machine.journal()


def test_a_stop_with_a_job_running_is_in_time_and_the_job_goes_on_afterwards(
    machine: Container,
) -> None:
    hasty = CONFIG.format(engine="drill") + '\n[recycle]\ndrain_timeout = "1s"\n'
    machine.write("/etc/sttd/sttd.toml", hasty)
    machine.run("systemctl", "restart", "sttd")
    drop_long(machine, "stopped.wav", 20)
    under_way(machine, "stopped.wav")
    machine.run("systemctl", "stop", "sttd")
    # neither "timeout" nor "signal": TimeoutStopSec= was not needed
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    machine.run("systemctl", "start", "sttd")
    transcript(machine, "stopped")
    job = jobs(machine)["stopped.wav"]
    assert (job["state"], job["attempts"]) == ("succeeded", 2)


def test_after_a_kill_with_jobs_running_nothing_is_lost(machine: Container) -> None:
    names = ["one.wav", "two.wav", "three.wav", "four.wav"]
    for name in names:
        drop_long(machine, name, 12)  # seen at the same time, by programs that take their time
    under_way(machine, "one.wav", "two.wav")
    before = machine.show("MainPID")
    machine.run("kill", "-9", before)
    for name in names:
        transcript(machine, name.removesuffix(".wav"))
    assert machine.show("MainPID") != before
    assert int(machine.show("NRestarts")) >= 1
    found = jobs(machine)
    assert {found[name]["state"] for name in names} == {"succeeded"}
    published = [path.name for path in (machine.state / "outbox").glob("*.json")]
    assert sorted(
        name for name in published if name.startswith(("one", "two", "three", "four"))
    ) == (sorted(name.replace(".wav", ".json") for name in names))


def test_a_wrong_configuration_is_not_tried_over_and_over(machine: Container) -> None:
    machine.write("/etc/sttd/sttd.toml", "nonsense = 1\n")
    machine.attempt("systemctl", "restart", "sttd")
    eventually(lambda: machine.show("ActiveState") == "failed")
    assert (machine.show("ExecMainStatus"), machine.show("NRestarts")) == ("2", "0")
    assert "unknown key" in machine.journal()


def test_a_local_engine_works_without_a_network(machine: Container) -> None:
    drop_in = (ROOT / "systemd" / "sttd.service.d" / "local-engine.conf").read_text()
    machine.write("/etc/systemd/system/sttd.service.d/local-engine.conf", drop_in)
    machine.write("/etc/sttd/sttd.toml", CONFIG.format(engine="pocketsphinx"))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "sttd")
    pid = machine.show("MainPID")
    links = machine.run("nsenter", "-t", pid, "-n", "cat", "/proc/net/dev")
    assert [line.split(":")[0].strip() for line in links.splitlines()[2:]] == ["lo"]
    drop(machine, "local.wav")
    transcript(machine, "local")


def test_each_worker_has_a_control_group_where_systemd_delegates_one(machine: Container) -> None:
    def pool() -> dict[str, Any]:
        return dict(json.loads(machine.sttctl("root", "status", "--json").stdout)["pool"])

    assert pool()["memory_control"] == "polling"
    drop_in = (ROOT / "systemd" / "sttd.service.d" / "cgroups.conf").read_text()
    machine.write("/etc/systemd/system/sttd.service.d/cgroups.conf", drop_in)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "sttd")
    drop(machine, "grouped.wav")
    transcript(machine, "grouped")
    shown = pool()
    group = "/sys/fs/cgroup/system.slice/sttd.service"
    enabled = machine.run("cat", f"{group}/cgroup.controllers").split()
    if "memory" not in enabled:
        assert shown["memory_control"] == "polling"
        why = "no control group (v2) with a memory controller"
        assert shown["memory_control_detail"] == why
        return
    assert (shown["memory_control"], shown["memory_control_detail"]) == ("cgroup", group)
    worker = shown["workers"][0]
    assert str(worker["pid"]) in machine.run("cat", f"{group}/{worker['id']}/cgroup.procs").split()
    assert machine.run("cat", f"{group}/{worker['id']}/memory.high").strip() == str(384 << 20)
    assert machine.run("cat", f"{group}/supervisor/cgroup.procs").split() == [
        machine.show("MainPID")
    ]
    refused = machine.attempt(
        "nsenter", "-t", machine.show("MainPID"), "-m", "mkdir", "/sys/fs/cgroup/x"
    )
    assert "Read-only" in refused.stderr
    assert "cgroup.trouble" not in machine.journal()


def test_the_speech_sdk_works_in_the_sandbox_with_a_key_from_the_credential_store(
    machine: Container,
) -> None:
    pytest.importorskip("azure.cognitiveservices.speech", reason="no extra `azure` here")
    with wave.open(str(machine.state / "marks.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(marked_pcm(2.0, 0.0))
    machine.write("/etc/credstore/sttd.speech-key", KEY, "600")
    with running_service(SpeechService(access=Access(keys=(KEY,)))) as service:
        azure = {"host": service.host, "auth": "key", "key": "speech-key"}
        section = "\n".join(f"{key} = {toml(value)}" for key, value in azure.items())
        config = CONFIG.format(engine="azure") + f"\n[engine.azure]\n{section}\n"
        machine.write("/etc/sttd/sttd.toml", config)
        machine.run("systemctl", "restart", "sttd")
        marks = ("cp", "/var/lib/sttd/marks.wav", f"{INBOX}/cloud.wav")
        machine.run("runuser", "-u", "sender", "--", *marks)
        assert '"segments":[{' in transcript(machine, "cloud").read_text().replace(" ", "")
    assert KEY not in machine.journal()
