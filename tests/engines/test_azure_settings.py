"""The `[engine.azure]` section: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.engines import InvalidAudioError, TranscribeOptions
from sttd.engines.azure.settings import (
    JOB_KEYS,
    Settings,
    SettingsError,
    check_token,
    for_job,
    read_settings,
)

HERE = {"host": "ws://127.0.0.1:5000", "auth": "none"}


def test_defaults_are_those_of_the_documentation() -> None:
    settings = read_settings({"region": "westeurope", "auth": "key", "key": "speech-key"})

    assert settings.languages == ("en-US",)
    assert settings.diarization
    assert settings.pace == 2.0
    assert settings.max_sessions == 20
    assert settings.resume == "continue"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "exactly one of region, endpoint and host: none is set"),
        ({**HERE, "region": "westeurope"}, "region and host are set"),
        ({"region": "westeurope", "auth": "key"}, "credential's name"),
        ({"region": "westeurope", "auth": "none"}, "host instead of region"),
        ({**HERE, "host": "127.0.0.1:5000"}, "host = '127.0.0.1:5000'"),
        ({**HERE, "langages": ["en-US"]}, "did you mean 'languages'"),
        ({**HERE, "zzz": 1}, "unknown key 'zzz': known: auth"),
        ({**HERE, "auth": "password"}, r"\$.auth"),
        ({**HERE, "languages": []}, "name at least one"),
        ({**HERE, "languages": ["english"]}, "'english' is no locale"),
        ({**HERE, "languages": ["en-US", "en-GB"]}, "only one locale of 'en'"),
        ({**HERE, "languages": ["aa", "bb", "cc", "dd", "ee"], "language_id": "start"}, "most 4"),
        ({**HERE, "languages": [f"{c}a" for c in "abcdefghijk"]}, "at most 10"),
        ({**HERE, "phrases": ["x"] * 501}, "at most 500"),
        ({**HERE, "segmentation_silence_ms": 50}, "between 100 and 5000"),
        ({**HERE, "max_phrase_ms": 30_000}, "needs segmentation_silence_ms"),
        ({**HERE, "pace": 0}, r"\$.pace"),
        ({**HERE, "stall_timeout": "soon"}, "a time like '50s'"),
        ({**HERE, "endpoint_id": "a b"}, r"\$.endpoint_id"),
        ({**HERE, "proxy": "socks"}, "http://"),
        ({**HERE, "proxy": "http://me@proxy:99999"}, "proxy is no address: Port out of range"),
        ({**HERE, "proxy": "a..b:8080"}, "proxy: 'a..b' can be no host's name"),
        ({**HERE, "host": "ws://127.0.0.1:99999"}, "host is no address: Port out of range"),
        ({**HERE, "host": "ws://127.0.0.1:0"}, "host is no address"),
        ({**HERE, "host": "ws://:5000"}, "host is no address"),
        ({**HERE, "host": "ws://[::1"}, "host is no address: Invalid IPv6 URL"),
        ({"endpoint": "https://contoso..cognitiveservices.azure.com/"}, "endpoint: .*its dots"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        read_settings(wrong)

    assert str(caught.value).startswith("[engine.azure]")


@pytest.mark.parametrize(
    ("written", "seconds"), [("90s", 90.0), ("500ms", 0.5), ("2min", 120.0), ("7", 7.0), (30, 30.0)]
)
def test_times_may_be_written_with_units(written: object, seconds: float) -> None:
    assert read_settings({**HERE, "stall_timeout": written}).stall_timeout == seconds


def test_a_job_without_wishes_gets_the_configuration() -> None:
    settings = read_settings({**HERE, "phrases": ["sttd"], "properties": {"a": "b"}})

    assert for_job(settings, TranscribeOptions()) == settings


def test_a_job_may_switch_diarization_off_and_ask_for_its_language() -> None:
    job = for_job(read_settings(HERE), TranscribeOptions(diarization=False, languages=("de-DE",)))

    assert not job.diarization
    assert job.languages == ("de-DE",)


@pytest.mark.parametrize(
    "name", sorted(set(Settings.__struct_fields__) - set(JOB_KEYS) - {"languages"})
)
def test_a_job_may_not_change_where_or_as_whom_the_daemon_speaks(name: str) -> None:
    options = TranscribeOptions(extra={name: "wss://elsewhere.example"})

    with pytest.raises(InvalidAudioError, match="unknown key"):
        for_job(read_settings(HERE), options)


def test_a_jobs_impossible_wish_fails_the_job() -> None:
    options = TranscribeOptions(languages=("en-US", "en-GB"))

    with pytest.raises(InvalidAudioError, match="job's options: languages"):
        for_job(read_settings(HERE), options)


@given(
    st.dictionaries(
        st.sampled_from(Settings.__struct_fields__),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()),
    )
)
def test_whatever_is_configured_the_answer_is_settings_or_one_clear_line(
    options: dict[str, object],
) -> None:
    outcome: object
    try:
        outcome = read_settings(options)
    except SettingsError as error:
        outcome = str(error)
    assert isinstance(outcome, Settings) or str(outcome).startswith("[engine.azure] ")


def test_a_token_that_no_regional_address_takes_is_refused_before_a_job_is_held() -> None:
    region = {"region": "westeurope", "auth": "entra"}
    for environ in ({}, {"AZURE_ACCESS_TOKEN": "bare"}):
        with pytest.raises(SettingsError, match="resource_id"):
            check_token(read_settings(region), environ)
    check_token(read_settings(region), {"AZURE_ACCESS_TOKEN": "aad#/subscriptions/1#composed"})
    check_token(read_settings({**region, "resource_id": "/subscriptions/1"}), {})
    check_token(read_settings({"endpoint": "https://a.example.com/", "auth": "entra"}), {})
