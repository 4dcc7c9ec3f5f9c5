"""What the template rehearses is there in its children, and nothing else is left of it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sttd.worker import rehearsal

REPOSITORY = Path(__file__).resolve().parents[2]

# Counts how often annotations are read, in an interpreter of its own: what was made stays made.
PROGRAM = """
import json, sys
import msgspec
from sttd.wire.journal import Line
from sttd.wire.messages import FromDecoder, ToWorker
from sttd.wire.options import JobOptions
from sttd.worker import rehearsal

read = 0

def count(frame, event, _):
    global read
    read += event == "call" and frame.f_code.co_name == "get_class_annotations"

def first_use():
    global read
    read = 0
    sys.setprofile(count)
    for kind in (ToWorker, FromDecoder):
        msgspec.msgpack.Decoder(kind)
    for kind in (JobOptions, Line):
        msgspec.json.Decoder(kind)
    sys.setprofile(None)
    return read

if sys.argv[1] == "rehearsed":
    from sttd.worker import main  # what a template imports makes the rest
    rehearsal.rehearse_job()
print(json.dumps(first_use()))
"""


def annotations_read(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    return int(json.loads(done.stdout))


def test_after_a_rehearsal_no_message_type_is_looked_at_again() -> None:
    assert annotations_read("fresh") > 10  # so that the next line means something
    assert annotations_read("rehearsed") == 0


def test_a_rehearsal_of_decoding_leaves_nothing_behind() -> None:
    pytest.importorskip("av")

    def state() -> tuple[list[str], int, tuple[int, int]]:
        threads = len(os.listdir("/proc/self/task"))
        return os.listdir("/proc/self/fd"), threads, resource.getrlimit(resource.RLIMIT_CPU)

    rehearsal.rehearse_decoding()  # imports are done now
    before = state()
    rehearsal.rehearse_decoding()
    assert state() == before


def test_the_recording_of_a_rehearsal_is_really_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    pcm = pytest.importorskip("sttd.worker.pcm")
    heard: list[float] = []
    opened = pcm.open_recording

    class Listening:
        def __init__(self, *args: object) -> None:
            self.inner = opened(*args)

        def __enter__(self) -> object:
            self.recording = self.inner.__enter__()
            return self.recording

        def __exit__(self, *how: object) -> object:
            heard.append(self.recording.position_s)
            return self.inner.__exit__(*how)

    monkeypatch.setattr(pcm, "open_recording", Listening)
    rehearsal.rehearse_decoding()
    assert heard == [pytest.approx(0.1)]
