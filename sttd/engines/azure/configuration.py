"""From settings to the SDK's configuration objects. Builds, and starts nothing."""

from __future__ import annotations

import urllib.parse
from typing import Any

import azure.cognitiveservices.speech as sdk
from azure.cognitiveservices.speech.languageconfig import (
    AutoDetectSourceLanguageConfig,
    SourceLanguageConfig,
)

from sttd.engines.azure.grants import Grant
from sttd.engines.azure.settings import SDK_PACE, Settings

# How long the SDK waits for the service when a session that failed is taken down. Its own ten
# seconds are spent in the destructor, in vain; 0 brings any clean-up under 0.1 s (measured), and a
# session that went well has nothing left to wait for.
STOP_LIMIT_S = 0
# The SDK keeps audio until a final phrase covers it, and cancels beyond this much. Its own 66 s
# are too little when audio goes out faster than twice real time; half an hour is what Microsoft's
# batch-processing-kit uses. At worst 57 MB of audio are held.
FAST_BUFFER_MS = 1_800_000
# How much audio the SDK puts into a message: 200 ms instead of its own 100, which halves what is
# done for each. The service names 65,536 bytes when it refuses a message (close code 1007,
# learn.microsoft.com/answers/questions/1294385, there for synthesis); no limit for audio is in
# today's documentation, so with its headers a message is kept below 8 KiB.
FRAME_BYTES = 6_400
FRAME_MS = FRAME_BYTES // 32
# How often the SDK's thread at the connection looks for what there is to send and to read: its own
# 10 ms cost a third of a session's CPU. Once for each message is enough to send them all. What the
# service says arrives half of that later on average; a short recording should not wait for it, and
# has few looks to save.
SDK_POLL_MS = 10
POLL_MS = 100
SHORT_S = 15.0

_PROFANITY = {
    "masked": sdk.ProfanityOption.Masked,
    "removed": sdk.ProfanityOption.Removed,
    "raw": sdk.ProfanityOption.Raw,
}


def speech_config(
    job: Settings, grant: Grant, proxy_password: str = "", rest_s: float | None = None
) -> Any:
    """The SpeechConfig of one session, for `rest_s` seconds of audio (None: nobody knows)."""
    config = _addressed(job, grant)
    config.request_word_level_timestamps()
    config.set_profanity(_PROFANITY[job.profanity])
    if job.endpoint_id and len(job.languages) == 1:
        config.endpoint_id = job.endpoint_id
    for name, value in _by_id(job).items():
        config.set_property(name, value)
    config.set_properties_by_name(_by_name(job, rest_s))
    if job.proxy:
        _set_proxy(config, job.proxy, proxy_password)
    for name, value in job.properties.items():
        _set_raw(config, name, value)
    return config


def language_arguments(job: Settings) -> dict[str, Any]:
    """What ConversationTranscriber takes beside the configurations."""
    if len(job.languages) == 1:
        return {"language": job.languages[0]}
    if job.endpoint_id:
        each = [SourceLanguageConfig(language, job.endpoint_id) for language in job.languages]
        chosen = AutoDetectSourceLanguageConfig(sourceLanguageConfigs=each)
    else:
        chosen = AutoDetectSourceLanguageConfig(languages=list(job.languages))
    return {"auto_detect_source_language_config": chosen}


def _addressed(job: Settings, grant: Grant) -> Any:
    key = grant.value if grant.kind == "key" else None
    token = grant.value if grant.kind == "token" else None
    if job.region:
        return sdk.SpeechConfig(region=job.region, subscription=key, auth_token=token)
    address = {"endpoint": job.endpoint} if job.endpoint else {"host": job.host}
    config = sdk.SpeechConfig(subscription=key, **address)
    if token is not None:
        # The constructor's token_credential is not used: it makes a reference cycle inside the
        # SDK and connects without a token when the credential raises.
        config.authorization_token = token
    return config


def _by_id(job: Settings) -> dict[Any, str]:
    ids = sdk.PropertyId
    values = {}
    if len(job.languages) > 1:
        mode = {"start": "AtStart", "continuous": "Continuous"}[job.language_id]
        values[ids.SpeechServiceConnection_LanguageIdMode] = mode
    if job.segmentation_silence_ms:
        values[ids.Speech_SegmentationSilenceTimeoutMs] = str(job.segmentation_silence_ms)
    if job.max_phrase_ms:
        values[ids.Speech_SegmentationMaximumTimeMs] = str(job.max_phrase_ms)
    return values


def poll_ms(pace: float, rest_s: float | None) -> int:
    """Once for each message that is sent at this pace, but for short recordings."""
    if rest_s is not None and rest_s <= SHORT_S:
        return SDK_POLL_MS
    return max(SDK_POLL_MS, min(POLL_MS, int(FRAME_MS / pace)))


def _by_name(job: Settings, rest_s: float | None) -> dict[str, str]:
    """Undocumented properties, each tried with SDK 1.53; Microsoft's own kit sets some of them."""
    values = {
        "SPEECH-StopRecognitionTimeoutInSeconds": str(STOP_LIMIT_S),
        "SPEECH-ObjectCountErrorThreshold": str(job.max_objects),
        "SPEECH-USPRunPollingInterval": str(poll_ms(job.pace, rest_s)),
        "SPEECH-BytesPerFrame": str(FRAME_BYTES),
    }
    if job.pace != SDK_PACE:
        percent = str(round(job.pace * 100))
        values["SPEECH-AudioThrottleAsPercentageOfRealTime"] = percent
    if job.pace > SDK_PACE:
        values["SPEECH-AudioThrottleLowAsPercentageOfRealTime"] = percent
        values["SPEECH-MaxBufferSizeMs"] = str(FAST_BUFFER_MS)
    return values


def _set_raw(config: Any, name: str, value: str) -> None:
    """A property by the name of its PropertyId where it has one, else by the name as it is."""
    known = sdk.PropertyId.__members__.get(name)
    if known is not None:
        config.set_property(known, value)
    else:
        config.set_property_by_name(name, value)


def _set_proxy(config: Any, proxy: str, password: str) -> None:
    address = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    assert address.hostname is not None  # settings have checked it
    assert address.port is not None
    config.set_proxy(address.hostname, address.port, address.username, password or None)
