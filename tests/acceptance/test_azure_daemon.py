"""The whole daemon on the real Speech SDK against the local service."""

from __future__ import annotations

import itertools
import os
import signal
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

pytest.importorskip("azure.cognitiveservices.speech", reason="the extra `azure` is not installed")

from tests.speech_service.behaviour import Access, Behaviour
from tests.speech_service.identity import running_identity
from tests.speech_service.marks import marked_pcm
from tests.speech_service.running import Running, running_service
from tests.speech_service.server import SpeechService
from tests.support.azure import HURRY

KEY = "a-secret-that-nobody-may-see"


@pytest.fixture
def service() -> Iterator[Running]:
    with running_service(SpeechService(access=Access(keys=(KEY,)))) as one:
        yield one


def written(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(marked_pcm(seconds, 0.0))
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return written(tmp_path / "marks.wav", 8.0)


def azure(service: Running, **more: object) -> dict[str, object]:
    options = {"host": service.host, "auth": "key", "key": "speech-key", "properties": HURRY}
    return {"name": "azure", "azure": {**options, **more}}


def start(sttd: Daemon) -> None:
    sttd.start(env={"STTD_CREDENTIAL_SPEECH_KEY": KEY})


def test_recordings_are_transcribed_and_the_key_is_nowhere_to_be_seen(
    service: Running, recording: Path
) -> None:
    with daemon(engine=azure(service)) as sttd:
        start(sttd)
        for n in range(4):
            sttd.drop(f"{n}.wav", recording)
        for n in range(4):
            assert sttd.transcript(str(n))["segments"]
        status = sttd.status()
        assert (status["engine"]["name"], status["engine"]["state"]) == ("azure", "ok")
        assert status["engine"]["max_sessions"] == 20
        for worker in status["pool"]["workers"]:
            for secretive in ("environ", "cmdline"):
                assert KEY.encode() not in Path(f"/proc/{worker['pid']}/{secretive}").read_bytes()
        assert sttd.stop() == 0
        for path in (p for p in sttd.home.rglob("*") if p.is_file()):
            assert KEY.encode() not in path.read_bytes(), path


def test_a_refused_key_holds_every_job_and_fails_none(service: Running, recording: Path) -> None:
    with daemon(engine=azure(service)) as sttd:
        sttd.start(env={"STTD_CREDENTIAL_SPEECH_KEY": "wrong"})
        for n in range(3):
            sttd.drop(f"{n}.wav", recording)
        eventually(lambda: sttd.status()["engine"]["state"] == "unauthorized")
        queue = sttd.status()["queue"]
        assert queue["failed"] == 0
        assert queue["queued"] + queue["running"] + queue["deferred"] == 3


def test_a_restart_of_the_service_in_mid_flight_loses_no_job(
    service: Running, recording: Path
) -> None:
    service.service.plan = [Behaviour(delay_s=0.3)]
    with daemon(engine=azure(service), pool={"workers": 4}) as sttd:
        start(sttd)
        for n in range(8):
            sttd.drop(f"{n}.wav", recording)
        eventually(lambda: service.counters.now >= 2)
        service.restart()
        for n in range(8):
            transcript = sttd.transcript(str(n))
            assert transcript["source"]["duration_s"] == pytest.approx(8.0)
        assert sttd.status()["queue"]["failed"] == 0
        assert os.path.exists(sttd.state / "outbox" / "0.json")


def test_a_short_trouble_is_over_while_a_long_recording_is_still_being_sent(
    service: Running, recording: Path, tmp_path: Path
) -> None:
    away = [Behaviour(status=503)] * 2  # one job's, with its one retry
    service.service.plan = [Behaviour(), *away, Behaviour()]
    retries = {name: value for name, value in HURRY.items() if "Error" in name}
    with daemon(engine=azure(service, properties=retries), pool={"workers": 3}) as sttd:
        start(sttd)
        sttd.drop("long.wav", written(tmp_path / "long.wav", 300.0))
        service.wait_until(lambda counters: counters.now == 1)
        sttd.drop("a.wav", recording)
        sttd.until("engine.changed", state="unavailable")
        sttd.drop("b.wav", recording)
        assert sttd.transcript("a")["segments"]
        assert sttd.transcript("b")["segments"]
        eventually(lambda: sttd.status()["queue"]["running"] == 1, "the long one still runs")


def entra(service: Running, **more: object) -> dict[str, object]:
    options = {"host": service.host, "auth": "entra", "credential": "managed-identity"}
    return {"name": "azure", "azure": {**options, "properties": HURRY, **more}}


def test_workers_that_are_recycled_after_each_job_cost_the_identity_one_request(
    service: Running, recording: Path
) -> None:
    service.service.access = Access()
    with (
        running_identity() as identity,
        daemon(engine=entra(service), pool={"workers": 3}, recycle={"max_requests": 1}) as sttd,
    ):
        sttd.start(env=identity.environment)
        for n in range(8):
            sttd.drop(f"{n}.wav", recording)
        for n in range(8):
            assert sttd.transcript(str(n))["segments"]
        assert len(identity.asked) == 1


def test_a_role_that_is_assigned_later_lets_the_held_jobs_go(
    service: Running, recording: Path
) -> None:
    service.service.access = Access(tokens=("nobody has this one",))
    with running_identity() as identity, daemon(engine=entra(service)) as sttd:
        sttd.start(env=identity.environment)
        for n in range(3):
            sttd.drop(f"{n}.wav", recording)
        sttd.until("engine.changed", state="unauthorized")
        service.service.access = Access()
        for n in range(3):
            assert sttd.transcript(str(n))["segments"]
        assert sttd.status()["engine"]["state"] == "ok"
        assert sttd.status()["queue"]["failed"] == 0


def test_an_identity_that_hangs_holds_every_job_and_fails_none(
    service: Running, recording: Path
) -> None:
    service.service.access = Access()
    with (
        running_identity() as identity,
        daemon(
            engine=entra(service, stall_timeout="1s"),
            recycle={"stall_timeout": "6s"},
            retry={"max_attempts": 1},
        ) as sttd,
    ):
        identity.answers.clear()
        sttd.start(env=identity.environment)
        sttd.drop("a.wav", recording)
        held = sttd.until("engine.changed")
        assert held["state"] == "unavailable", held
        assert sttd.status()["queue"]["failed"] == 0
        identity.answers.set()
        assert sttd.transcript("a")["segments"]


def test_a_daemon_that_is_told_to_end_does_not_wait_for_an_identity_that_hangs(
    service: Running, recording: Path
) -> None:
    section = entra(service, stall_timeout="1s")
    with running_identity() as identity, daemon(engine=section) as sttd:
        identity.answers.clear()
        sttd.start(env=identity.environment)
        sttd.drop("a.wav", recording)
        eventually(lambda: identity.asked)
        assert sttd.stop() == 0


@pytest.mark.parametrize("resume", ["continue", "restart"])
def test_after_a_worker_was_killed_the_recording_goes_on_or_begins_again_as_configured(
    service: Running, tmp_path: Path, resume: str
) -> None:
    long = written(tmp_path / "long.wav", 24.0)
    section = azure(service, properties={}, resume=resume)
    with daemon(engine=section, pool={"workers": 1}) as sttd:
        start(sttd)
        sttd.drop("long.wav", long)
        service.wait_until(lambda counters: counters.audio_bytes > 12 * 32_000)
        (busy,) = [w for w in sttd.status()["pool"]["workers"] if w["state"] == "busy"]
        os.kill(busy["pid"], signal.SIGKILL)
        transcript = sttd.transcript("long")

    segments = transcript["segments"]
    later = [s for s in segments if s["speaker"].startswith("2/")]
    assert segments[0]["start_s"] == 0.0
    assert all(a["end_s"] == b["start_s"] for a, b in itertools.pairwise(segments))
    assert segments[-1]["end_s"] == 24.0
    sent_s = service.counters.audio_bytes / 32_000
    if resume == "restart":
        assert not later
        assert not transcript["resumed_at_s"]
    else:
        assert transcript["resumed_at_s"] == [later[0]["start_s"]]
        phrase_s = 2.0
        assert sent_s <= 24.0 + phrase_s + 10.0


def test_no_more_sessions_than_max_sessions_are_open_over_all_workers(
    service: Running, recording: Path
) -> None:
    service.service.plan = [Behaviour(delay_s=0.05)]
    with daemon(engine=azure(service, max_sessions=2), pool={"workers": 5}) as sttd:
        start(sttd)
        for n in range(8):
            sttd.drop(f"{n}.wav", recording)
        for n in range(8):
            assert sttd.transcript(str(n))
        assert sttd.status()["engine"]["max_sessions"] == 2
    assert service.counters.peak == 2


def test_a_reload_takes_a_new_quota(service: Running) -> None:
    with daemon(engine=azure(service, max_sessions=2)) as sttd:
        start(sttd)
        sttd.configure(engine=azure(service, max_sessions=7))
        assert "max_sessions" in sttd.ctl("reload").stdout
        eventually(lambda: sttd.status()["engine"]["max_sessions"] == 7)


def test_a_quota_smaller_than_configured_is_found_by_itself_and_fails_none(
    service: Running, recording: Path
) -> None:
    service.service.access = Access(keys=(KEY,), quota=2)
    service.service.plan = [Behaviour(delay_s=0.05)]
    with daemon(engine=azure(service), pool={"workers": 5}) as sttd:
        start(sttd)
        for n in range(8):
            sttd.drop(f"{n}.wav", recording)
        sttd.until("engine.changed", state="throttled")
        assert sttd.status()["engine"]["max_sessions"] < 5
        for n in range(8):
            assert sttd.transcript(str(n))
        assert sttd.status()["queue"]["failed"] == 0


def test_a_service_that_says_nothing_holds_the_queue_until_a_probe_is_heard(
    service: Running, recording: Path
) -> None:
    service.service.plan = [Behaviour(silent_from_s=0.0)]
    with daemon(engine=azure(service, stall_timeout="500ms"), pool={"workers": 3}) as sttd:
        start(sttd)
        for n in range(6):
            sttd.drop(f"{n}.wav", recording)
        sttd.until("engine.changed", state="unavailable")
        service.service.plan = [Behaviour()]
        for n in range(6):
            assert sttd.transcript(str(n))["segments"]
        assert sttd.status()["queue"]["failed"] == 0


def test_memory_deep_shows_the_native_objects_of_the_sdk(service: Running, recording: Path) -> None:
    def handles(jobs: int) -> object:
        found = sttd.json("memory", "--deep")["workers"]
        heaps = [w["heap"] for w in found if w["heap"] and w["jobs"] == jobs]
        return next((heap["handles"] for heap in heaps), None)

    with daemon(engine=azure(service), pool={"workers": 1, "standby": 0}) as sttd:
        start(sttd)
        before = eventually(lambda: handles(0), "an idle worker answers")
        sttd.drop("a.wav", recording)
        sttd.until("job.succeeded")
        assert eventually(lambda: handles(1), "it answers again") == before
        assert before == {"ISpxAudioConfig": 1}
        assert "ISpxAudioConfig" in sttd.ctl("memory", "--deep").stdout


def test_the_sdks_log_of_a_job_that_asks_for_it_is_kept_and_the_others_have_none(
    service: Running, recording: Path
) -> None:
    with daemon(engine=azure(service)) as sttd:
        start(sttd)
        sttd.drop("plain.wav", recording)
        sttd.drop("logged.wav", recording, {"sdk_log": True})
        sttd.transcript("plain")
        job = sttd.transcript("logged")["job_id"]
        kept = sttd.state / "logs" / f"{job}.sdk.log"
        eventually(kept.exists, "it leaves the spool with the job")
        text = kept.read_text()
        assert "usp_connection.cpp" in text
        assert KEY not in text
        assert [path.name for path in kept.parent.iterdir()] == [kept.name]
        assert kept.parent.stat().st_mode & 0o777 == 0o700
        eventually(lambda: not sttd.leftovers(), "the spool is empty")


def test_the_sdks_log_survives_the_worker_that_was_killed(
    service: Running, recording: Path
) -> None:
    service.service.plan = [Behaviour(silent_from_s=0.0)]
    recycle = {"stall_timeout": "2s"}
    with daemon(engine=azure(service), recycle=recycle, retry={"max_attempts": 1}) as sttd:
        start(sttd)
        sttd.drop("silent.wav", recording, {"sdk_log": True})
        failed = sttd.until("job.failed")
        assert failed["code"] == "stalled"
        kept = sttd.state / "logs" / f"{failed['job']}.sdk.log"
        eventually(kept.exists, "it leaves the spool with the job")
        assert "usp_connection.cpp" in kept.read_text()
