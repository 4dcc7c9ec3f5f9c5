"""A key that was given to the daemon is nowhere to be found while and after everything goes wrong.

Looked through are the log, what the events' socket says, every file that is left (ledger, reports
with their evidence, the socket's answers), and of each process its command line and, but for
those that need the key, its environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

pytest.importorskip("azure.cognitiveservices.speech", reason="the extra `azure` is not installed")

from tests.speech_service.behaviour import Access, Behaviour
from tests.speech_service.marks import marked_pcm
from tests.speech_service.running import Running, running_service
from tests.speech_service.server import SpeechService
from tests.support.azure import HURRY

KEY = "a-secret-that-nobody-may-see"
VIEWS = ("status", "jobs", "workers", "memory", "events", "config")


@pytest.fixture
def service() -> Iterator[Running]:
    with running_service(SpeechService(access=Access(keys=(KEY,)))) as one:
        yield one


def look_at_processes(sttd: Daemon) -> set[str]:
    """Their names; none has the key on its command line, few in their environment."""
    found = set()
    me = psutil.Process(sttd.pid)
    for process in [me, *me.children(recursive=True)]:
        try:
            name = process.name()
            folder = Path("/proc", str(process.pid))
            assert KEY.encode() not in (folder / "cmdline").read_bytes(), name
            # the daemon was given the key by its environment here, and hands it on to the helper
            if process.pid != me.pid and not name.startswith(("python", "sttd-broker", "sttd-h")):
                assert KEY.encode() not in (folder / "environ").read_bytes(), name
        except (OSError, psutil.NoSuchProcess):
            continue
        found.add(name)
    return found


def test_a_key_is_in_no_log_no_event_no_report_no_command_line_and_no_evidence(
    service: Running, tmp_path: Path
) -> None:
    recording = tmp_path / "marks.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(marked_pcm(8.0, 0.0))
    service.service.plan = [
        Behaviour(silent_from_s=0.0),  # a worker that hangs: its stacks are evidence
        Behaviour(delay_s=5.0),  # time to crash it
        Behaviour(status=401),  # the service refuses the key, by its own words
    ]
    options = {"host": service.host, "auth": "key", "key": "speech-key", "properties": HURRY}
    with daemon(
        engine={"name": "azure", "azure": options},
        recycle={"stall_timeout": "2s", "max_requests_jitter": 0},
        pool={"workers": 1, "standby": 0},
        retry={"max_attempts": 2, "max_crashes": 2, "backoff": "50ms"},
        log={"level": "debug"},
    ) as sttd:
        sttd.start(env={"STTD_CREDENTIAL_SPEECH_KEY": KEY})
        with (tmp_path / "events").open("wb") as heard:
            listener = subprocess.Popen(
                [sys.executable, "-m", "sttd.ctl", "--socket", sttd.endpoint, "events", "--follow"],
                stdout=heard,
                stderr=subprocess.STDOUT,
            )
        try:
            sttd.drop("goes-wrong.wav", recording)
            sttd.until("job.started")
            seen = look_at_processes(sttd)
            assert any(name.startswith("sttd-w-") for name in seen), seen
            sttd.until("worker.killed", reason="stalled")
            worker = sttd.until("job.started", 2)["worker"]
            os.kill(sttd.until("worker.spawned", worker=worker)["pid"], signal.SIGSEGV)
            sttd.until("worker.exited", signal=int(signal.SIGSEGV))
            job = sttd.until("job.accepted")["job"]
            shown = [sttd.ctl(view, "--json").stdout for view in VIEWS]
            shown += [sttd.ctl("why", job).stdout, sttd.ctl("show", job, "--json").stdout]
            assert all(KEY not in text for text in shown)
            assert job in shown[1]
            look_at_processes(sttd)
            sttd.until("job.failed", source="goes-wrong.wav")
            report = sttd.state / "failed" / "goes-wrong.wav.error.json"
            eventually(report.exists)
            sttd.drop("refused.wav", recording)
            sttd.until("engine.changed", state="unauthorized")
        finally:
            listener.terminate()
            listener.wait()
        assert sttd.stop() == 0
        assert json.loads(report.read_bytes())["evidence"]
        files = [path for path in sttd.home.rglob("*") if path.is_file()]
        assert {"log", "sttd.db", report.name} <= {path.name for path in files}
        for path in (*files, tmp_path / "events"):
            assert KEY.encode() not in path.read_bytes(), path
        assert (tmp_path / "events").stat().st_size > 0
        assert not [path for path in sttd.home.rglob("core*") if path.is_file()]
