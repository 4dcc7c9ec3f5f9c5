"""The stream that the SDK pulls from: what it is asked, and who is asked after its end."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("azure.cognitiveservices.speech", reason="the extra `azure` is not installed")

from azure.cognitiveservices.speech import audio as sdk

from sttd.engines import TransientEngineError
from sttd.engines.azure import pull
from sttd.engines.azure.configuration import FRAME_BYTES
from sttd.engines.azure.feed import Feed
from sttd.engines.azure.guard import callbacks_guarded
from tests.speech_service.behaviour import Behaviour
from tests.speech_service.running import Running, running_service
from tests.support.azure import Recording, engine_for, transcribe, whole

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running_service() as running:
        yield running


def call(ticket: int, size: int) -> tuple[int, bytes]:
    """What the SDK's thread gets when it reads."""
    buffer = ctypes.create_string_buffer(b"?" * size, size)
    return pull._on_read(ticket, ctypes.addressof(buffer), size), buffer.raw


@contextlib.contextmanager
def telling_what_was_raised() -> Iterator[list[str]]:
    """What is raised where nobody can catch it."""
    raised: list[str] = []
    with callbacks_guarded(lambda line: raised.append(line.partition(": ")[2])):
        yield raised


def test_the_sdk_calls_once_for_each_message_and_for_nothing_else(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    asked: list[object] = []
    read = Feed.read

    def counted(feed: Feed, session: int, size: int) -> bytes:
        reads.append(size)
        return read(feed, session, size)

    def property_of(_: object, name: object) -> str:
        asked.append(name)
        return ""

    monkeypatch.setattr(Feed, "read", counted)
    monkeypatch.setattr(sdk.PullAudioInputStreamCallback, "get_property", property_of)

    assert whole(transcribe(engine_for(service.host), Recording(6.0)), 6.0)

    assert asked == []
    assert set(reads) == {FRAME_BYTES}
    # the end, and what a chunk's border cuts short
    assert 30 < len(reads) <= 31 + 6 * 32_000 // (64 * 1024)


def test_a_read_fills_the_sdks_own_buffer_and_no_more() -> None:
    stream = pull.PullStream(lambda _: b"abcd")

    assert call(stream._ticket, 6) == (4, b"abcd??")
    with telling_what_was_raised() as raised:
        assert call(stream._ticket, 3) == (0, b"???")
    assert raised == ["4 bytes for a buffer of 3"]
    stream.close()


def test_who_reads_after_the_end_is_told_of_it_and_nothing_is_touched() -> None:
    stream = pull.PullStream(bytes)
    stream.close()
    stream.close()

    assert call(stream._ticket, 8) == (0, b"?" * 8)
    assert stream._ticket not in pull._readers


def test_streams_do_not_hear_one_another() -> None:
    first, second = pull.PullStream(lambda _: b"1"), pull.PullStream(lambda _: b"22")
    first.close()

    assert call(first._ticket, 8)[0] == 0
    assert call(second._ticket, 8)[0] == 2
    second.close()


def test_an_exception_while_the_sdk_reads_fails_the_attempt(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: object) -> bytes:
        raise ValueError("torn")

    monkeypatch.setattr(Feed, "read", torn)

    with pytest.raises(TransientEngineError, match="ValueError in _on_read: torn"):
        transcribe(engine_for(service.host), Recording(3.0))


LATE = """
import gc, os, sys, threading
import azure.cognitiveservices.speech as sdk
from azure.cognitiveservices.speech.transcription import ConversationTranscriber
from sttd.engines.azure.pull import PullStream
from tests.support.waiting import eventually
def threads():
    return len(os.listdir("/proc/self/task"))
reading, gone, refused = threading.Event(), threading.Event(), threading.Event()
reads = []
def read(size):
    reads.append(size)
    reading.set()  # in its first read: after the refusal there may be no other
    gone.wait()
    return bytes(size)
class Theirs(sdk.audio.PullAudioInputStreamCallback):
    def read(self, buffer):
        return len(read(len(buffer)))
ours = sys.argv[2] == "ours"
stream = PullStream(read) if ours else sdk.audio.PullAudioInputStream(Theirs())
config = sdk.SpeechConfig(host=sys.argv[1])
config.set_property_by_name("SPEECH-StopRecognitionTimeoutInSeconds", "0")
audio = sdk.audio.AudioConfig(stream=stream)
transcriber = ConversationTranscriber(config, audio)
transcriber.canceled.connect(lambda _: refused.set())
transcriber.start_transcribing_async().get()
assert reading.wait(10) and refused.wait(10)
transcriber.canceled.disconnect_all()
if ours:
    stream.close()
before = threads()
del transcriber, audio, stream
gc.collect()
gone.set()
eventually(lambda: threads() == 1, "the thread that read is gone")
print(len(reads), before > 1, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("stream", ["ours", "theirs"])
def test_a_thread_that_reads_when_all_is_taken_down_does_no_harm(
    service: Running, stream: str
) -> None:
    """The SDK waits for no such thread; with its own class for the stream the process dies."""
    service.service.plan = [Behaviour(status=401)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", LATE, service.host, stream],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        service.service.plan = [Behaviour()]

    if stream == "ours":
        assert (done.returncode, done.stdout) == (0, "1 True\n"), done.stderr
    else:
        assert done.returncode < 0, done.stdout
