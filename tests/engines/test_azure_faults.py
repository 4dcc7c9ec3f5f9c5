"""Every fault of the local service, and what the Azure engine makes of it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sttd.engines import (
    AuthenticationError,
    EngineError,
    EngineUnavailableError,
    InvalidAudioError,
    Segment,
    ThrottledError,
    TranscribeOptions,
    TransientEngineError,
)
from tests.speech_service.behaviour import Behaviour
from tests.speech_service.certificates import self_signed
from tests.speech_service.running import Running, running_service
from tests.speech_service.server import SpeechService
from tests.support.azure import Recording, engine_for, transcribe, whole

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with running_service() as service:
        yield service


@pytest.fixture
def service(running: Running) -> Running:
    running.service.plan = [Behaviour()]
    running.counters.sessions.clear()
    return running


@pytest.fixture(params=[3.0, 40.0], ids=["short", "long"])
def seconds(request: pytest.FixtureRequest) -> float:
    length: float = request.param
    return length


# The whole table: what the service does to every connection, and what the job is told.
FAULTS: dict[str, tuple[Behaviour, type[EngineError]]] = {
    "http 400": (Behaviour(status=400), EngineUnavailableError),
    "http 401": (Behaviour(status=401), AuthenticationError),
    "http 403": (Behaviour(status=403), AuthenticationError),
    "http 404": (Behaviour(status=404), EngineUnavailableError),
    "http 429": (Behaviour(status=429, headers={"Retry-After": "7"}), ThrottledError),
    "http 500": (Behaviour(status=500), EngineUnavailableError),
    "http 503": (Behaviour(status=503), EngineUnavailableError),
    "dropped each time": (Behaviour(drop_at_s=1.0), EngineUnavailableError),
    "close 1002": (Behaviour(close_at_s=2.5, close_code=1002), EngineUnavailableError),
    "close 1007": (Behaviour(close_at_s=2.5, close_code=1007), InvalidAudioError),
    "close 1007 for its quota": (
        Behaviour(close_at_s=2.5, close_code=1007, close_reason="Quota exceeded. Cid: 0123"),
        EngineUnavailableError,
    ),
    "close 1011 each time": (
        Behaviour(close_at_s=1.0, close_code=1011),
        EngineUnavailableError,
    ),
    "close 1013 each time": (
        Behaviour(close_at_s=1.0, close_code=1013),
        EngineUnavailableError,
    ),
    "close 4000": (Behaviour(close_at_s=2.5, close_code=4000), EngineUnavailableError),
    "close 4429": (Behaviour(close_at_s=2.5, close_code=4429), ThrottledError),
    "status TooManyRequests": (Behaviour(phrase_status="TooManyRequests"), ThrottledError),
    "status BadRequest": (Behaviour(phrase_status="BadRequest"), InvalidAudioError),
    "status Forbidden": (Behaviour(phrase_status="Forbidden"), EngineUnavailableError),
    "status Error": (Behaviour(phrase_status="Error"), TransientEngineError),
    "status unheard of": (Behaviour(phrase_status="Nonsense"), TransientEngineError),
    "status ServiceUnavailable": (
        Behaviour(phrase_status="ServiceUnavailable"),
        EngineUnavailableError,
    ),
    "bad json": (Behaviour(garbage="json"), TransientEngineError),
    "silent": (Behaviour(silent_from_s=2.5), TransientEngineError),
    "never starts a turn": (Behaviour(turn_start=False), TransientEngineError),
    "never ends a turn": (Behaviour(turn_end=False), TransientEngineError),
    "never answers the upgrade": (Behaviour(hang_upgrade=True), EngineUnavailableError),
}


# told by the silence: the others must not be taken for it by a busy machine
SILENT = {"silent", "never starts a turn", "never ends a turn", "never answers the upgrade"}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_verdict_and_no_word_is_lost(
    service: Running, fault: str, seconds: float
) -> None:
    behaviour, expected = FAULTS[fault]
    service.service.plan = [behaviour]
    segments: list[Segment] = []
    patience_s = 0.5 if fault in SILENT else 10.0

    with pytest.raises(expected):
        transcribe(
            engine_for(service.host, stall_timeout=patience_s), Recording(seconds), into=segments
        )

    service.wait_until(lambda counters: counters.now == 0)
    resumed_at = segments[-1].end_s if segments else 0.0
    assert whole(segments, resumed_at)
    service.service.plan = [Behaviour()]
    rest = transcribe(engine_for(service.host), Recording(seconds, start_s=resumed_at))
    assert whole(segments + rest, seconds)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 1012, 1013, 4400, 4401, 4503])
def test_other_close_codes_are_survived_by_reconnecting(service: Running, code: int) -> None:
    service.service.plan = [Behaviour(close_at_s=2.5, close_code=code), Behaviour()]

    assert whole(transcribe(engine_for(service.host), Recording(6.0)), 6.0)


def test_a_connection_lost_behind_the_last_phrase_is_not_waited_for_until_the_stall_timeout(
    service: Running,
) -> None:
    service.service.plan = [Behaviour(drop_at_end=True), Behaviour()]
    segments: list[Segment] = []
    engine = engine_for(service.host, stall_timeout=3600.0)

    with pytest.raises(TransientEngineError, match="at the end of the recording"):
        transcribe(engine, Recording(6.0), into=segments)

    assert whole(segments, 6.0)
    assert transcribe(engine, Recording(6.0, start_s=segments[-1].end_s)) == []


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_a_refusal_that_passes_is_survived_by_retrying(service: Running, status: int) -> None:
    service.service.plan = [Behaviour(status=status)] * 2 + [Behaviour()]
    engine = engine_for(service.host, properties={"SPEECH-Error-MaxRetryCount": "4"})

    assert whole(transcribe(engine, Recording(3.0)), 3.0)


def test_a_slow_service_is_waited_for(service: Running) -> None:
    service.service.plan = [Behaviour(delay_s=0.05)]

    assert whole(transcribe(engine_for(service.host), Recording(6.0)), 6.0)


def test_a_service_that_restarts_in_mid_flight_costs_the_unfinished_phrase(
    service: Running,
) -> None:
    stream = engine_for(service.host, hurry=False).transcribe(Recording(12.0), TranscribeOptions())
    segments = [next(stream)]

    service.restart()
    segments += stream

    assert whole(segments, 12.0)
    sent = service.counters.audio_bytes / 32_000
    assert sent <= 12.0 + 2.0 + 10.0


def test_the_daemon_hears_of_the_services_state_before_the_clean_up(service: Running) -> None:
    service.service.plan = [Behaviour(status=503)]
    recording = Recording(3.0)

    with pytest.raises(EngineUnavailableError):
        transcribe(engine_for(service.host), recording)

    assert [type(error) for error in recording.reports] == [EngineUnavailableError]


@pytest.mark.parametrize(
    ("behaviour", "reports"),
    [
        (Behaviour(turn_start=False), [EngineUnavailableError]),
        (Behaviour(silent_from_s=0.0), [EngineUnavailableError]),
        (Behaviour(silent_from_s=2.5), []),
    ],
)
def test_a_service_that_never_said_anything_is_probed_before_others_meet_the_same(
    service: Running, behaviour: Behaviour, reports: list[type[EngineError]]
) -> None:
    service.service.plan = [behaviour]
    recording = Recording(6.0)

    with pytest.raises(TransientEngineError, match="said nothing"):
        transcribe(engine_for(service.host, stall_timeout=1.5), recording)

    assert [type(error) for error in recording.reports] == reports


def test_a_request_that_only_this_job_made_fails_this_job_alone(service: Running) -> None:
    service.service.plan = [Behaviour(status=400)]
    options = TranscribeOptions(languages=("xx-XX",))

    with pytest.raises(InvalidAudioError, match="languages"):
        transcribe(engine_for(service.host), Recording(3.0), options)


def test_nobody_listening_means_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

    with pytest.raises(EngineUnavailableError, match="no connection"):
        transcribe(engine_for(f"ws://127.0.0.1:{port}"), Recording(3.0))


def test_a_name_that_does_not_exist_means_unavailable() -> None:
    with pytest.raises(EngineUnavailableError, match="no connection"):
        transcribe(engine_for("wss://nowhere.invalid"), Recording(3.0))


def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    context, _ = self_signed(tmp_path)

    with running_service(tls=context) as service, pytest.raises(EngineUnavailableError):
        transcribe(engine_for(service.host), Recording(3.0))


def test_a_trusted_certificate_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    with running_service(tls=context) as service:
        assert whole(transcribe(engine_for(service.host), Recording(3.0)), 3.0)


def test_what_was_said_and_what_is_secret_stay_out_of_error_messages(service: Running) -> None:
    service.service.plan = [Behaviour(phrase_status="Error", text="a private matter")]

    with pytest.raises(TransientEngineError) as caught:
        transcribe(engine_for(service.host), Recording(3.0))

    assert "private" not in str(caught.value)


def test_an_exception_inside_a_callback_of_the_sdk_fails_the_attempt(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's Python layer raises where a message cannot be decoded, and Python only prints."""
    sdk = pytest.importorskip("azure.cognitiveservices.speech.transcription")

    def undecodable(_: object, __: object) -> None:
        raise UnicodeDecodeError("utf-8", b"\xc3", 0, 1, "cut")

    monkeypatch.setattr(sdk.ConversationTranscriptionCanceledEventArgs, "__init__", undecodable)

    with pytest.raises(TransientEngineError, match="UnicodeDecodeError in __canceled_callback"):
        transcribe(engine_for(service.host), Recording(3.0))


def test_leaked_sdk_objects_strike_the_tripwire(service: Running) -> None:
    sdk = pytest.importorskip("azure.cognitiveservices.speech")
    leaked = [sdk.SpeechConfig(host="ws://127.0.0.1:1") for _ in range(60)]

    with pytest.raises(TransientEngineError, match="too many SDK objects"):
        transcribe(engine_for(service.host, max_objects=50), Recording(1.0))
    assert leaked


CRASHER = """
import sys
from tests.speech_service.behaviour import Behaviour
from tests.speech_service.running import running_service
from tests.support.azure import Recording, engine_for, transcribe
with running_service() as service:
    service.service.plan = [Behaviour(garbage="overrun")]
    # what lies behind the frame decides; with the SDK's own messages it is never readable
    sizes = {"SPEECH-BytesPerFrame": "3200"}
    transcribe(engine_for(service.host, properties=sizes), Recording(3.0))
"""


def test_a_frame_that_overruns_itself_kills_the_sdk_which_is_what_workers_are_for() -> None:
    """Holds the finding: SDK 1.53 reads past a binary frame whose headers claim to be longer."""
    done = subprocess.run(
        [sys.executable, "-c", CRASHER], cwd=ROOT, capture_output=True, check=False
    )

    assert done.returncode < 0, done.stderr


def test_a_quota_of_sessions_is_answered_by_throttling() -> None:
    service = SpeechService()
    service.access = type(service.access)(quota=1)
    with running_service(service) as running:
        first = engine_for(running.host, hurry=False).transcribe(
            Recording(60.0), TranscribeOptions()
        )
        next(first)
        with pytest.raises(ThrottledError):
            transcribe(engine_for(running.host), Recording(3.0))
        first.close()  # type: ignore[attr-defined]  # it is a generator
