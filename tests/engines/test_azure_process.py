"""The engine in the template and its forked workers: no thread, no native object, no surprise."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.speech_service.running import Running, running_service

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running_service() as running:
        yield running


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


COUNTING = """
import gc, os, sys
import azure.cognitiveservices.speech
from azure.cognitiveservices.speech.interop import _Handle
def natives():
    return sum(isinstance(thing, _Handle) for thing in gc.get_objects())
before = natives()
from tests.support.azure import engine_for
engine = engine_for("ws://127.0.0.1:1")
print(len(os.listdir("/proc/self/task")), natives() - before)
"""


def test_building_the_engine_starts_no_thread_and_makes_no_native_object() -> None:
    done = run(COUNTING)

    assert done.stdout.split() == ["1", "0"], done.stderr


FORKING = """
import gc, os, sys
from tests.support.azure import Recording, engine_for, transcribe, whole
engine = engine_for(sys.argv[1])
gc.collect(); gc.freeze()
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if whole(transcribe(engine, Recording(4.0)), 4.0) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_workers_forked_from_the_template_transcribe(service: Running) -> None:
    done = run(FORKING, service.host)

    assert done.stdout.split() == ["0", "0", "0"], done.stderr


LEAVING = """
import os, sys
from sttd.engines import TranscribeOptions
from tests.support.azure import Recording, engine_for
stream = engine_for(sys.argv[1], hurry=False).transcribe(Recording(60.0), TranscribeOptions())
next(stream)
print("flushed", flush=True)
os._exit(3)
"""


def test_a_worker_that_leaves_in_mid_session_keeps_its_exit_code(service: Running) -> None:
    done = run(LEAVING, service.host)

    assert done.returncode == 3
    assert done.stdout == "flushed\n"


KILLED = """
import sys
from sttd.engines import TranscribeOptions
from tests.support.azure import Recording, engine_for
stream = engine_for(sys.argv[1], hurry=False).transcribe(Recording(40.0), TranscribeOptions())
for segment in stream:
    print(segment.end_s, flush=True)
"""


def test_after_a_kill_no_more_is_sent_twice_than_the_unfinished_phrase_and_ten_seconds(
    service: Running,
) -> None:
    service.counters.sessions.clear()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, service.host], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        committed = [float(worker.stdout.readline()) for _ in range(4)][-1]
        worker.kill()
        committed = max([committed, *map(float, worker.stdout.read().split())])
    service.wait_until(lambda counters: counters.now == 0)

    resumed = run(
        "import sys\n"
        "from tests.support.azure import Recording, engine_for, transcribe, whole\n"
        "start = float(sys.argv[2])\n"
        "segments = transcribe(engine_for(sys.argv[1]), Recording(40.0, start_s=start))\n"
        "print(whole(segments, 40.0, start_s=start))",
        service.host,
        str(committed),
    )

    assert resumed.stdout == "True\n", resumed.stderr
    phrase_s = 2.0
    assert service.counters.audio_bytes / 32_000 <= 40.0 + phrase_s + 10.0


COUNTED = """
import sys, time
from sttd.engines import TranscribeOptions
from tests.support.azure import Recording, engine_for
engine = engine_for(sys.argv[1], hurry=False)
print(before := engine.handles())
stream = engine.transcribe(Recording(60.0), TranscribeOptions())
next(stream)
print(engine.handles())
stream.close()
end = time.monotonic() + 30  # on a busy machine the native destructor outlasts its limit
while engine.handles() != before and time.monotonic() < end:
    time.sleep(0.05)
print(engine.handles())
"""


def test_the_engine_counts_the_native_objects_that_are_alive(service: Running) -> None:
    done = run(COUNTED, service.host)

    assert done.returncode == 0, done.stderr
    before, during, after = map(ast.literal_eval, done.stdout.splitlines())
    assert before == after == {"ISpxAudioConfig": 1}
    assert (during["ISpxRecognizer"], during["ISpxAudioStream"]) == (1, 1)


def test_a_native_object_that_a_job_leaves_behind_is_counted(service: Running) -> None:
    left = COUNTED.replace(
        "stream.close()",
        "import azure.cognitiveservices.speech as sdk\n"
        "stream.close(); kept = [sdk.audio.PushAudioInputStream() for _ in range(3)]",
    )

    done = run(left, service.host)

    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout.splitlines()[-1])["ISpxAudioStream"] == 3


REFUSED = """
import contextlib, gc, sys
from sttd.engines import EngineUnavailableError
from tests.support.azure import Recording, engine_for, transcribe
slow = {"SPEECH-AudioThrottleAsPercentageOfRealTime": "50"}
engine = engine_for(sys.argv[1], properties=slow)
for _ in range(3):
    with contextlib.suppress(EngineUnavailableError):
        transcribe(engine, Recording(1.0))
    gc.collect()
    print(engine.handles())
"""


def test_a_session_that_the_sdk_refuses_to_begin_leaves_nothing_behind(service: Running) -> None:
    done = run(REFUSED, service.host)

    assert done.returncode == 0, done.stderr
    assert list(map(ast.literal_eval, done.stdout.splitlines())) == [{"ISpxAudioConfig": 1}] * 3
