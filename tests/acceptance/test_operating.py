"""What an operator does all day with sttctl, on the real daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sttd.client import Client
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

LONG = {"sleep_s": 60.0, "segments": 600}  # reads and yields all the time, and does not end


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return tone(tmp_path / "a.wav", 1.0)


@pytest.fixture
def sttd() -> Iterator[Daemon]:
    with daemon(pool={"workers": 1}, engine={"options": {"text": "the old words"}}) as one:
        one.start()
        yield one


def states(sttd: Daemon) -> dict[str, str]:
    return {job["source"]["name"]: job["state"] for job in sttd.json("jobs")["jobs"]}


def job(sttd: Daemon, name: str) -> str:
    jobs = sttd.json("jobs")["jobs"]
    return next(str(one["job"]) for one in jobs if one["source"]["name"] == name)


def test_a_queued_and_a_running_job_are_cancelled_and_their_originals_are_kept(
    sttd: Daemon, wav: Path
) -> None:
    sttd.drop("runs.wav", wav, {"options": LONG})
    sttd.until("job.started")
    sttd.drop("waits.wav", wav)
    sttd.until("job.accepted", 2)

    for name in ("waits.wav", "runs.wav"):
        assert sttd.json("cancel", job(sttd, name))["state"] in ("cancelled", "running")

    eventually(lambda: set(states(sttd).values()) == {"cancelled"}, "both are cancelled")
    assert sttd.status()["queue"]["cancelled"] == 2
    eventually(
        lambda: len([p for p in sttd.state.rglob("*.wav") if "spool" not in p.parts]) == 2,
        "the originals are where their owner finds them",
    )


def test_every_failed_job_is_tried_again_at_once(sttd: Daemon, wav: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        marker = str(tmp_path / f"{name}.marker")
        sttd.drop(f"{name}.wav", wav, {"options": {"raise": "invalid", "once_marker": marker}})
    sttd.until("job.failed", 2)
    eventually(lambda: len(list((sttd.state / "failed").glob("*.wav"))) == 2)

    assert sttd.json("retry", "--all-failed") == {"retried": 2}

    for name in ("a", "b"):
        assert sttd.transcript(name)["text"]
    eventually(lambda: set(states(sttd).values()) == {"succeeded"}, "both are recorded")
    assert sttd.json("retry", "--all-failed") == {"retried": 0}


def test_workers_are_added_and_taken_away(sttd: Daemon) -> None:
    def busy_or_idle() -> int:
        workers = sttd.status()["pool"]["workers"]
        return sum(worker["state"] in ("busy", "idle") for worker in workers)

    assert sttd.json("scale", "3") == {"configured": 3, "previous": 1}
    eventually(lambda: busy_or_idle() == 3, "three work")
    assert sttd.ctl("scale", "1").stdout == "1 worker, 3 before\n"
    eventually(lambda: busy_or_idle() == 1, "one works")
    eventually(lambda: sttd.status()["recycles"]["scaled"] == 2, "two were scaled away")


def test_a_reload_says_what_changed_and_a_running_job_keeps_the_engine_it_began_with(
    sttd: Daemon, wav: Path
) -> None:
    sttd.drop("before.wav", wav, {"options": {"sleep_s": 3.0, "segments": 60}})
    sttd.until("job.started")
    before = {w["id"] for w in sttd.status()["pool"]["workers"]}
    sttd.configure(
        pool={"workers": 2},
        engine={"options": {"text": "the new words"}},
        inbox={"path": "elsewhere"},
    )

    told = sttd.ctl("reload").stdout

    assert told.splitlines() == [
        "changed: pool.workers = 2, 1 before",
        'changed: engine.options.text = "the new words", "the old words" before',
        "needs a restart: inbox.path",
    ]
    assert "old" in sttd.transcript("before")["text"]
    assert sttd.transcript("before")["attempts"] == 1

    def rolled() -> bool:  # until then the old ones go on: there is no pause
        return not {w["id"] for w in sttd.status()["pool"]["workers"]} & before

    eventually(rolled, "every worker is forked from the new template")
    sttd.drop("after.wav", wav)
    assert "new" in sttd.transcript("after")["text"]
    assert sttd.ctl("reload").stdout == "needs a restart: inbox.path\n"


@pytest.mark.parametrize(
    "verb",
    [["status"], ["jobs"], ["workers"], ["workers", "--history"], ["memory"], ["events"],
     ["config", "show"], ["version"], ["top"]],
    ids=" ".join,
)  # fmt: skip
def test_every_list_is_json_on_request_and_plain_in_a_pipe(sttd: Daemon, verb: list[str]) -> None:
    done = sttd.ctl(*verb, "--json")
    assert done.returncode == 0, done.stderr
    assert all(json.loads(line) for line in done.stdout.splitlines())
    if verb != ["top"]:
        plain = sttd.ctl(*verb)
        assert plain.returncode == 0, plain.stderr
        assert "\x1b" not in plain.stdout


def test_a_value_of_the_environment_is_shown_with_the_variable_it_comes_from(wav: Path) -> None:
    with daemon() as sttd:
        sttd.start(env={"STTD_RECYCLE__MAX_AGE": "6h"})
        shown = {one["key"]: one for one in sttd.json("config", "show")["settings"]}
        assert shown["recycle.max_age"]["value"] == "6h"
        assert shown["recycle.max_age"]["origin"] == "environment STTD_RECYCLE__MAX_AGE"
        assert shown["retry.backoff"]["origin"].startswith(str(sttd.config))
        assert shown["retry.backoff_max"]["origin"] == "default"
        assert wav.exists()


def test_whoever_hears_of_a_failure_finds_the_report_and_the_original(
    sttd: Daemon, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.wav"
    junk.write_bytes(b"this is no recording" * 50)
    failed = sttd.state / "failed"
    with Client(sttd.endpoint) as client, client.follow(["job.failed"]) as heard:
        for number in range(5):
            sttd.drop(f"{number}.wav", junk)
            event = next(heard)
            assert (failed / f"{event['source']}.error.json").exists()
            assert (failed / str(event["source"])).exists()


def test_whoever_waits_for_a_failure_or_cancels_finds_the_report_and_the_original(
    sttd: Daemon, wav: Path
) -> None:
    junk = b"this is no recording" * 50
    failed = sttd.state / "failed"
    with Client(sttd.endpoint) as client:
        for number in range(20):
            name = f"{number}.wav"
            client.wait([client.submit(junk, name=name).job])
            assert (failed / f"{name}.error.json").exists()
            assert (failed / name).exists()
        running = client.submit(wav, options={"options": LONG}).job
        sttd.until("job.started", job=running)
        assert client.cancel(running).state == "cancelled"
        assert (failed / wav.name).exists()


def test_an_idle_daemon_that_is_stopped_says_that_it_is_drained(sttd: Daemon) -> None:
    assert sttd.stop() == 0
    names = [e["event"] for e in sttd.events() if e["event"].startswith("daemon.")]
    assert names[-4:] == ["daemon.stopping", "daemon.draining", "daemon.drained", "daemon.stopped"]
