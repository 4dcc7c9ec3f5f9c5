"""The table of cancellations, and how success is decided."""

from __future__ import annotations

import pytest

from sttd.engines import (
    EngineError,
    EngineUnavailableError,
    InvalidAudioError,
    TransientEngineError,
)
from sttd.engines.azure.errors import (
    REASON_BY_USER,
    REASON_END_OF_STREAM,
    REASON_ERROR,
    TABLE,
    Ending,
    error_for,
    scrubbed,
    start_error,
)


def test_the_table_has_every_code_of_the_sdk_by_its_name() -> None:
    sdk = pytest.importorskip("azure.cognitiveservices.speech")

    assert {code: row[0] for code, row in TABLE.items()} == {
        code.value: code.name for code in sdk.CancellationErrorCode
    }
    assert sdk.CancellationReason.Error.value == REASON_ERROR
    assert sdk.CancellationReason.EndOfStream.value == REASON_END_OF_STREAM
    assert sdk.CancellationReason.CancelledByUser.value == REASON_BY_USER


def test_a_code_nobody_knows_is_a_failed_attempt() -> None:
    assert isinstance(error_for(99, "new", connected=True), TransientEngineError)


def test_a_reconnection_refused_at_the_door_is_the_services_absence() -> None:
    details = "WebSocket upgrade failed: Internal service error (500)"

    assert isinstance(error_for(7, details, connected=True), EngineUnavailableError)


@pytest.mark.parametrize(
    ("error", "wished", "kind"),
    [
        (RuntimeError("0x5 (SPXERR_INVALID_ARG)"), True, InvalidAudioError),
        (RuntimeError("5"), True, InvalidAudioError),
        (ValueError("language cannot be an empty string"), True, InvalidAudioError),
        (RuntimeError("0x1b (SPXERR_RUNTIME_ERROR)"), True, TransientEngineError),
        (RuntimeError("0x5 (SPXERR_INVALID_ARG)"), False, EngineUnavailableError),
        (RuntimeError("The maximum object count of 500 has been"), True, TransientEngineError),
    ],
)
def test_a_session_that_does_not_begin_fails_a_job_at_once_for_its_own_arguments_alone(
    error: Exception, wished: bool, kind: type[EngineError]
) -> None:
    assert type(start_error(error, wished=wished)) is kind


@pytest.mark.parametrize(
    "details",
    [
        "Authorization: Bearer aad#/subscriptions/1#eyJhbGciOiJub25lIn0.eyJleHAiOjF9.c2ln",
        "https://host/path?subscription-key=0123456789abcdef&x=1",
        "token=abcdefgh01234567",
        "body eyJhbGciOiJub25lIn0.eyJleHAiOjF9.c2ln end",
    ],
)
def test_secrets_are_scrubbed_from_the_sdks_words(details: str) -> None:
    line = scrubbed(details)

    for secret in ("eyJ", "0123456789abcdef", "abcdefgh"):
        assert secret not in line


END = ("end",)
ERROR = ("error",)
STOPPED = ("stopped",)


def ended(*events: tuple[str], audio_taken: bool = True) -> EngineError | None:
    ending = Ending()
    ending.connected = ending.online = True
    for (event,) in events:
        if event == "end":
            ending.canceled(REASON_END_OF_STREAM, 0, "")
        elif event == "error":
            ending.canceled(REASON_ERROR, 6, "timeout")
        else:
            ending.stopped = True
    return ending.error(audio_taken=audio_taken)


def test_the_end_of_the_stream_without_an_error_is_success() -> None:
    assert ended(END, STOPPED) is None
    assert ended(STOPPED, END) is None


@pytest.mark.parametrize(
    "events",
    [
        (STOPPED,),
        (ERROR, STOPPED),
        (STOPPED, ERROR),
        (END, ERROR, STOPPED),
        (ERROR, END),
        (ERROR, STOPPED, ERROR),
        (),
    ],
)
def test_nothing_else_is_success(events: tuple[tuple[str], ...]) -> None:
    assert ended(*events) is not None


def test_an_end_before_all_audio_was_taken_is_no_success() -> None:
    assert isinstance(ended(END, STOPPED, audio_taken=False), TransientEngineError)


def test_a_session_cancelled_by_its_user_is_no_success() -> None:
    ending = Ending()
    ending.canceled(REASON_BY_USER, 0, "")
    assert ending.error(audio_taken=True) is not None


def test_a_lost_event_is_no_success_whatever_else_happened() -> None:
    ending = Ending()
    ending.canceled(REASON_END_OF_STREAM, 0, "")
    ending.broken = "UnicodeDecodeError"
    assert isinstance(ending.error(audio_taken=True), TransientEngineError)
