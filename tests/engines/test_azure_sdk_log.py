"""The Speech SDK's own log of a job: what is in it, what never is, and that it has a bound."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("azure.cognitiveservices.speech", reason="the extra `azure` is not installed")

from sttd.engines import EngineError, TranscribeOptions
from sttd.engines.azure import sdklog
from sttd.engines.azure.configuration import POLL_MS, SHORT_S
from sttd.engines.azure.sdklog import HIDDEN, BoundedFile, Scrubber, logged
from tests.speech_service.behaviour import Access
from tests.speech_service.marks import marked_pcm
from tests.speech_service.running import Running, running_service
from tests.speech_service.server import SpeechService
from tests.support.azure import Recording, engine_for, heard, transcribe
from tests.support.waiting import eventually

KEY = "0123456789abcdef0123456789abcdef"
NAME = "STTD_CREDENTIAL_SPEECH_KEY"
SECONDS = 20.0


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv(NAME, KEY)
    with running_service(SpeechService(access=Access(keys=(KEY,)))) as one:
        yield one


def test_a_job_that_asks_for_it_has_the_sdks_log_and_the_next_has_none(
    service: Running, tmp_path: Path
) -> None:
    path = tmp_path / "sdk.log"
    engine = engine_for(service.host, auth="key", key="speech-key")
    assert heard(transcribe(engine, Recording(SECONDS), TranscribeOptions(log=str(path))))
    text = path.read_text()
    assert "usp_connection.cpp" in text
    assert "speech.phrase" in text
    assert text.endswith("\n")
    assert path.stat().st_mode & 0o777 == 0o600
    transcribe(engine, Recording(SECONDS))
    assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["sdk.log"]
    assert "azure-log" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("properties", "ms"), [({}, POLL_MS), ({"SPEECH-USPRunPollingInterval": "25"}, 25)]
)
def test_the_sdk_looks_at_its_connection_as_often_as_it_is_told(
    service: Running, tmp_path: Path, properties: dict[str, str], ms: int
) -> None:
    """Undocumented: should a later SDK not know the property, sessions cost half as much again."""
    path = tmp_path / "sdk.log"
    engine = engine_for(service.host, auth="key", key="speech-key", properties=properties)

    transcribe(engine, Recording(SHORT_S + 1.0), TranscribeOptions(log=str(path)))

    assert f"switching polling interval: 10 ms -> {ms} ms" in path.read_text()


def test_a_second_attempt_is_added_and_holds_no_line_of_what_came_between(
    service: Running, tmp_path: Path
) -> None:
    path = tmp_path / "sdk.log"
    engine = engine_for(service.host, auth="key", key="speech-key")
    options = TranscribeOptions(log=str(path))
    counts = []
    for _ in range(2):
        transcribe(engine, Recording(SECONDS), options)
        counts.append(path.read_text().count("\n"))
        for _ in range(3):
            transcribe(engine, Recording(SECONDS))
    assert counts[0] < counts[1] < 3 * counts[0]


def test_neither_key_nor_what_was_said_is_in_it_even_before_it_is_cleaned(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scrubber, "clean", lambda _self, line: line)
    path = tmp_path / "sdk.log"
    engine = engine_for(service.host, auth="key", key="speech-key")
    segments = transcribe(engine, Recording(SECONDS), TranscribeOptions(log=str(path)))
    text = path.read_text()
    assert len(text) > 10_000
    assert KEY not in text
    assert not [s.text for s in segments if s.text in text]


def test_a_token_is_not_in_it_even_before_it_is_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdHRkIn0.c2lnbmVkLWJ5LW5vYm9keQ"
    monkeypatch.setenv("AZURE_ACCESS_TOKEN", token)
    monkeypatch.setattr(Scrubber, "clean", lambda _self, line: line)
    path = tmp_path / "sdk.log"
    with running_service(SpeechService(access=Access(tokens=(token,)))) as service:
        engine = engine_for(service.host, auth="entra")
        assert transcribe(engine, Recording(SECONDS), TranscribeOptions(log=str(path)))
    text = path.read_text()
    assert len(text) > 10_000
    assert not [part for part in token.split(".") if part in text]


def test_the_token_behind_a_resource_is_hidden_too() -> None:
    scrubber = Scrubber()
    scrubber.hide("aad#/subscriptions/1/speech#opaque-token")
    assert scrubber.clean("it was opaque-token, said") == f"it was {HIDDEN}, said"


def test_a_refused_key_leaves_its_log_and_not_itself(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "fedcba9876543210fedcba9876543210"
    monkeypatch.setenv(NAME, wrong)
    path = tmp_path / "sdk.log"
    engine = engine_for(service.host, auth="key", key="speech-key")
    with pytest.raises(EngineError):
        transcribe(engine, Recording(SECONDS), TranscribeOptions(log=str(path)))
    assert "401" in path.read_text()
    assert wrong not in path.read_text()


def test_a_log_that_cannot_be_written_costs_no_transcript(service: Running) -> None:
    engine = engine_for(service.host, auth="key", key="speech-key")
    options = TranscribeOptions(log="/nonexistent/sdk.log")
    assert heard(transcribe(engine, Recording(SECONDS), options))


def test_a_disk_that_fills_up_ends_the_log_and_not_the_job(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: BoundedFile, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BoundedFile, "write", full)
    engine = engine_for(service.host, auth="key", key="speech-key")
    options = TranscribeOptions(log=str(tmp_path / "sdk.log"))
    assert heard(transcribe(engine, Recording(SECONDS), options))


def test_it_is_written_while_the_session_lasts(service: Running, tmp_path: Path) -> None:
    path = tmp_path / "sdk.log"
    engine = engine_for(service.host, auth="key", key="speech-key", hurry=False)
    recording = Recording(6.0, pcm=marked_pcm(6.0, 0.0))
    segments = engine.transcribe(recording, TranscribeOptions(log=str(path)))
    next(segments)
    eventually(lambda: path.stat().st_size)
    list(segments)


def test_the_file_is_bounded_and_the_latest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "sdk.log"
    file = BoundedFile(str(path), largest=1000)
    for number in range(500):
        file.write(f"line {number}\n".encode())
    file.close()
    kept = (tmp_path / "sdk.log.1").read_text() + path.read_text()
    assert len(kept) <= 2000
    assert kept.endswith("line 499\n")
    lines = kept.splitlines()
    assert lines == [f"line {n}" for n in range(500 - len(lines), 500)]


def test_lines_that_the_ring_has_lost_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sdk.log"
    with logged(str(path), Scrubber()):
        monkeypatch.setattr(sdklog, "_oldest", lambda: 10**9)
        monkeypatch.setattr(sdklog, "_newest", lambda: 10**9)
    assert "lines were lost" in path.read_text()


SECRETIVE = [
    "Authorization: Bearer abc.def-123",
    "authorization: bearer abc",
    "Proxy-Authorization: Basic dXNlcjpwYXNz",
    "Ocp-Apim-Subscription-Key: 0123456789abcdef",
    "name='Ocp-Apim-Subscription-Key' : '0123'",
    "GET /x?language=en-US&sig=AbC%2F123&x=1",
    "token eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl here",
    "client_secret=hunter2",
]


@pytest.mark.parametrize("line", SECRETIVE)
def test_what_looks_like_a_secret_is_hidden(line: str) -> None:
    cleaned = Scrubber().clean(line)
    assert HIDDEN in cleaned
    for part in ("abc", "dXNl", "0123", "AbC", "eyJ", "c2ln", "hunter2"):
        assert part not in cleaned
    assert cleaned[:3] == line[:3]


@given(st.text(min_size=6, max_size=60), st.text(), st.text())
def test_a_known_secret_is_hidden_wherever_it_stands(secret: str, before: str, after: str) -> None:
    scrubber = Scrubber()
    scrubber.hide(secret)
    if secret not in HIDDEN:
        left = scrubber.clean(before + secret + after).split(HIDDEN)
        assert not any(secret in part for part in left)
