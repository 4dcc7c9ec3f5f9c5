"""The daemon as its users meet it: real processes, real signals, real files."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.daemon import daemon
from tests.support.waiting import eventually
from tests.support.wav import tone


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return tone(tmp_path / "talk.wav", 0.5)


def test_a_dropped_recording_comes_out_in_every_format_and_its_original_is_kept(wav: Path) -> None:
    with daemon() as sttd:
        sttd.start()
        sttd.drop("a/meeting.wav", wav, {"options": {"text": "hello there"}})
        transcript = sttd.transcript("a/meeting")
        assert transcript["text"] == "hello there"
        assert transcript["source"]["name"] == "a/meeting.wav"
        assert transcript["source"]["duration_s"] == pytest.approx(0.5)
        outbox = sttd.state / "outbox" / "a"
        assert sorted(p.name for p in outbox.iterdir()) == [
            "meeting.json",
            "meeting.srt",
            "meeting.txt",
            "meeting.vtt",
        ]
        eventually((sttd.state / "done" / "a" / "meeting.wav").exists)
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.stop() == 0


def test_two_hundred_files_survive_a_kill_of_the_supervisor(wav: Path) -> None:
    with daemon(pool={"workers": 4}, recycle={"max_requests": 5}) as sttd:
        sttd.start()
        for n in range(200):
            sttd.drop(f"f{n}.wav", wav, {"options": {"text": f"file {n}", "sleep_s": 0.02}})
        sttd.until("job.succeeded", 60)
        sttd.kill()
        sttd.start()

        def all_done() -> bool:
            queue = sttd.status()["queue"]
            return bool(queue["succeeded"] == 200)

        eventually(all_done, "200 transcripts", 120)
        eventually(lambda: sttd.leftovers() == [], "nothing is left over")
        for n in range(200):
            assert sttd.transcript(f"f{n}")["text"] == f"file {n}"
        status = sttd.status()
        names = ("queued", "deferred", "running", "failed", "cancelled")
        assert {k: status["queue"][k] for k in names} == dict.fromkeys(names, 0)
        assert len(list((sttd.state / "outbox").glob("*.json"))) == 200
        assert len(list((sttd.state / "done").iterdir())) == 400  # with their sidecars
        assert status["recycles"]["max_requests"] > 5
        assert sttd.stop() == 0


def test_a_worker_over_its_ceiling_is_killed_and_its_job_tried_again(
    wav: Path, tmp_path: Path
) -> None:
    lines = {"rss_soft": "100MiB", "rss_ceiling": "150MiB"}
    with daemon(recycle=lines, pool={"workers": 1}) as sttd:
        sttd.start()
        marker = str(tmp_path / "once")
        options = {"leak_mb_per_s": 200, "sleep_s": 6, "once_marker": marker, "text": "at last"}
        sttd.drop("leaky.wav", wav, {"options": options})
        killed = sttd.until("worker.killed", reason="rss_ceiling")
        assert killed["rss_bytes"] > 150 << 20
        assert sttd.transcript("leaky")["text"] == "at last"
        again = sttd.events("job.requeued", "job.deferred")
        assert [e["code"] for e in again] == ["rss_ceiling"]
        eventually(lambda: sttd.status()["queue"]["succeeded"] == 1, "it is recorded")
        assert sttd.status()["recycles"]["rss_ceiling"] == 1


def test_a_job_that_kills_two_workers_is_quarantined_with_its_reason(wav: Path) -> None:
    with daemon(retry={"max_attempts": 4, "backoff": 0}) as sttd:
        sttd.start()
        sttd.drop("poison.wav", wav, {"options": {"segfault": True}})
        sttd.drop("healthy.wav", wav)
        sttd.until("job.quarantined", source="poison.wav")
        report = sttd.state / "failed" / "poison.wav.error.json"
        eventually((sttd.state / "failed" / "poison.wav").exists)
        error = json.loads(report.read_text())
        assert error["code"] == "quarantined"
        assert len(error["attempts"]) == 2
        assert sttd.transcript("healthy")
        assert sttd.status()["recycles"]["crashed"] == 2


def test_a_worker_that_hangs_is_found_by_its_lack_of_progress(wav: Path, tmp_path: Path) -> None:
    with daemon(recycle={"stall_timeout": "3s"}, pool={"workers": 1}) as sttd:
        sttd.start()
        options = {"hang": True, "once_marker": str(tmp_path / "m"), "text": "again"}
        sttd.drop("hung.wav", wav, {"options": options})
        sttd.until("worker.killed", reason="stalled")
        assert sttd.transcript("hung")["attempts"] == 2


def test_drain_waits_for_the_last_running_job_and_resume_takes_what_came_meanwhile(
    wav: Path,
) -> None:
    with daemon() as sttd:
        sttd.start()
        sttd.drop("slow.wav", wav, {"options": {"sleep_s": 1.5}})
        sttd.until("job.started")
        assert sttd.ctl("drain", "--wait").returncode == 0
        assert [e["source"] for e in sttd.events("job.succeeded")] == ["slow.wav"]
        assert sttd.status()["daemon"]["state"] == "drained"
        sttd.drop("later.wav", wav)
        sttd.until("job.accepted", source="later.wav")
        assert not [e for e in sttd.events("job.started") if e["source"] == "later.wav"]
        assert sttd.status()["queue"]["queued"] == 1
        assert sttd.ctl("resume").returncode == 0
        assert sttd.transcript("later")


def test_sigterm_lets_running_jobs_finish_and_a_second_one_requeues_them(wav: Path) -> None:
    with daemon() as sttd:
        sttd.start()
        sttd.drop("slow.wav", wav, {"options": {"sleep_s": 1}})
        sttd.until("job.started")
        assert sttd.stop() == 0
        assert (sttd.state / "outbox" / "slow.json").exists()
        sttd.start()
        sttd.drop("endless.wav", wav, {"options": {"hang": True}})
        sttd.until("job.started", source="endless.wav")
        assert sttd.process is not None
        sttd.process.send_signal(signal.SIGTERM)
        sttd.until("daemon.stopping", 2)
        sttd.process.send_signal(signal.SIGTERM)
        assert sttd.process.wait(20) == 0
        sttd.start()
        sttd.until("job.started", 2, source="endless.wav")
        job = sttd.json("jobs")["jobs"][0]
        assert (job["state"], job["attempts"]) == ("running", 2)


def test_what_an_engine_makes_of_being_told_to_leave_is_no_transcript(wav: Path) -> None:
    engine: dict[str, object] = {"name": "tests.support.engines:Unmoved"}
    with daemon(engine=engine, recycle={"grace": "20s", "drain_timeout": "1s"}) as sttd:
        sttd.start()
        sttd.drop("long.wav", wav, {"options": {"wait": True}})
        job = sttd.until("job.started")["job"]
        assert sttd.json("show", job)["worker"] == sttd.until("job.started")["worker"]
        sttd.until("worker.output", line="long.wav waits")
        assert sttd.stop() == 0
        assert sttd.events("worker.output")[-1]["line"] == "long.wav is left"
        assert sttd.events("worker.killed", "job.succeeded", "job.failed") == []
        (journal,) = (sttd.state / "spool").rglob("segments.jsonl")
        assert "bytes" in journal.read_text()
        assert "half a sent" not in journal.read_text()
        sttd.start()
        assert sttd.until("job.started", 2, job=job)["attempt"] == 2


def test_no_process_outlives_a_killed_supervisor(wav: Path) -> None:
    with daemon(pool={"workers": 3}) as sttd:
        sttd.start()
        sttd.until("worker.ready", 4)
        for n in range(3):
            sttd.drop(f"h{n}.wav", wav, {"options": {"hang": True, "ignore_sigterm": True}})
        sttd.until("job.started", 3)
        pids = [w["pid"] for w in sttd.status()["pool"]["workers"]]
        assert len(pids) == 4
        sttd.kill()
        eventually(lambda: not [p for p in pids if Path(f"/proc/{p}").exists()], "all are gone")
        needle = str(sttd.pid)
        assert not [p for p in _pids() if _parent(p) == needle]


def _pids() -> list[str]:
    return [p for p in os.listdir("/proc") if p.isdigit()]


def _parent(pid: str) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return None


def test_a_running_job_can_be_cancelled(wav: Path) -> None:
    with daemon() as sttd:
        sttd.start()
        sttd.drop("endless.wav", wav, {"options": {"hang": True}})
        job = sttd.until("job.started")["job"]
        assert sttd.json("cancel", job)["state"] == "cancelled"
        assert sttd.status()["recycles"]["cancelled"] == 1
        assert sttd.status()["queue"]["cancelled"] == 1


def test_a_failed_job_can_be_retried(wav: Path, tmp_path: Path) -> None:
    with daemon(retry={"max_attempts": 1}) as sttd:
        sttd.start()
        options = {"raise": "bug", "once_marker": str(tmp_path / "m"), "text": "better"}
        sttd.drop("unlucky.wav", wav, {"options": options})
        job = sttd.until("job.failed")["job"]
        eventually((sttd.state / "failed" / "unlucky.wav").exists)
        assert sttd.ctl("retry", job).returncode == 0
        assert "better" in sttd.transcript("unlucky")["text"]
        assert not list((sttd.state / "failed").iterdir())


def test_submitted_files_are_durable_when_answered_and_idempotent_by_key(wav: Path) -> None:
    with daemon() as sttd:
        sttd.start()
        first = sttd.json("submit", str(wav), "--key", "k1", "--wait")
        assert first["state"] == "succeeded"
        second = sttd.json("submit", str(wav), "--key", "k1")
        assert second["job"] == first["job"]
        assert second["duplicate"]


def test_an_engine_that_is_away_holds_its_jobs_and_fails_none(wav: Path, tmp_path: Path) -> None:
    with daemon() as sttd:
        sttd.start()
        options = {"raise": "unavailable", "once_marker": str(tmp_path / "m")}
        sttd.drop("held.wav", wav, {"options": options})
        sttd.until("engine.changed", state="unavailable")
        assert sttd.transcript("held")
        sttd.until("engine.changed", state="ok")
        eventually(lambda: sttd.json("jobs")["jobs"][0]["state"] == "succeeded", "it is recorded")


def test_a_recording_that_the_service_dies_of_does_not_keep_the_others_waiting(wav: Path) -> None:
    with daemon(pool={"workers": 1}) as sttd:
        sttd.start()
        sttd.drop("poison.wav", wav, {"options": {"raise": "unavailable"}, "priority": 5})
        sttd.until("engine.changed", state="unavailable")
        for n in range(3):
            sttd.drop(f"{n}.wav", wav)
        for n in range(3):
            assert sttd.transcript(str(n))
        assert sttd.status()["queue"]["failed"] == 0


def test_a_crashed_job_goes_on_behind_its_last_committed_segment(
    tmp_path: Path,
) -> None:
    long = tone(tmp_path / "long.wav", 4.0)
    with daemon() as sttd:
        sttd.start()
        options = {
            "text": "one two three four",
            "segments": 4,
            "segfault_after_segments": 2,
            "once_marker": str(tmp_path / "m"),
        }
        sttd.drop("long.wav", long, {"options": options})
        transcript = sttd.transcript("long")
        assert transcript["attempts"] == 2
        (resumed,) = transcript["resumed_at_s"]
        assert resumed == pytest.approx(2.0, abs=0.1)
        starts = [s["start_s"] for s in transcript["segments"]]
        assert starts == sorted(starts)
        assert [s for s in starts if s < resumed] == starts[:2]
        assert sttd.until("job.resumed")["segments"] == 2


def test_a_name_that_is_no_text_is_carried_through_byte_for_byte(wav: Path) -> None:
    with daemon() as sttd:
        sttd.start()
        inbox = os.fsencode(sttd.state / "inbox")
        names = (b"caf\xe9", b"\xff" * 200)
        for name in names:
            with open(inbox + b"/." + name, "wb") as part:
                part.write(wav.read_bytes())
            os.rename(part.name, inbox + b"/" + name + b".wav")
        sttd.until("job.succeeded", len(names))
        for name in names:
            place = os.fsencode(sttd.state / "outbox") + b"/" + name
            assert os.path.exists(place + b".json")
            assert os.path.exists(place + b".txt")
        eventually(lambda: sttd.leftovers() == [])
        kept = os.listdir(os.fsencode(sttd.state / "done"))
        assert sorted(kept) == sorted(name + b".wav" for name in names)
        assert sttd.stop() == 0


def test_a_folder_that_is_called_like_the_manifest_of_its_neighbour_is_gone_around(
    wav: Path,
) -> None:
    with daemon(pool={"workers": 2}) as sttd:
        sttd.drop("m.json/x.wav", wav, {"options": {"sleep_s": 4.0}})
        sttd.drop("m.wav", wav)
        sttd.start()
        assert sttd.transcript("m.json-2/x")["source"]["name"] == "m.json/x.wav"
        assert sttd.transcript("m")["source"]["name"] == "m.wav"
        done = {e["source"]: e for e in [sttd.until("job.succeeded", n) for n in (1, 2)]}
        assert [e["attempt"] for e in done.values()] == [1, 1]
        assert "m.json-2/x.json" in done["m.json/x.wav"]["outputs"]
        eventually(lambda: sttd.leftovers() == [])
