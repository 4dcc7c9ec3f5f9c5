"""`sttd check-engine` for Azure: connects, authenticates, transcribes two seconds of silence.

Says in plain words what is wrong and what to do: name, network, proxy, TLS, clock, credentials,
and at last the service itself by the real SDK. Each step stands on the one before, so the first
that fails is the cause. Changes nothing anywhere; costs two seconds of audio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from sttd.engines import (
    AuthenticationError,
    EngineError,
    EngineUnavailableError,
    InvalidAudioError,
    ThrottledError,
)
from sttd.engines.azure.conversation import Conversation
from sttd.engines.azure.reach import Finding, StepFailedError, address_of, reach
from sttd.engines.azure.settings import Settings, SettingsError, read_settings
from sttd.engines.azure.sources import Source, source_for

__all__ = ["Finding", "check"]

SILENCE_S = 2.0
LONGEST_S = 20.0  # that the service may be silent


class _Silence:
    """An `Audio` of nothing."""

    name = "two seconds of silence"
    path = ""
    duration_s: float | None = SILENCE_S
    start_s = 0.0

    def __iter__(self) -> Iterator[bytes]:
        yield bytes(int(SILENCE_S * 32_000))

    def report(self, error: EngineError) -> None:
        """Nobody holds jobs for a check."""


def check(options: Mapping[str, object]) -> list[Finding]:
    """What is right and wrong with `[engine.azure]`, in the order in which things must be right.

    The last finding is the one that matters: `ok` for a service that transcribes, else the cause
    and its remedy. Takes as long as the network does, a minute at the worst. Never raises.
    """
    findings: list[Finding] = []
    try:
        settings = read_settings(options)
        findings.append(Finding(ok=True, step="configuration", message="[engine.azure] is valid"))
        source = source_for(settings)
        password = source.proxy_password() if settings.proxy else ""
        findings.extend(reach(address_of(settings), settings.proxy, password))
        findings.append(_credentials(settings, source))
        findings.append(_transcription(settings, source))
    except SettingsError as error:
        findings.append(Finding(ok=False, step="configuration", message=str(error)))
    except StepFailedError as failed:
        findings.extend(failed.findings)
    except EngineError as error:
        findings.append(_credentials_failed(error))
    return findings


def _credentials(settings: Settings, source: Source) -> Finding:
    try:
        grant = source.get()
    except EngineError as error:
        raise StepFailedError([_credentials_failed(error)]) from None
    words = {
        "key": f"the key is the credential {settings.key!r}",
        "token": "a token was issued",
        "none": "none are configured",
    }
    return Finding(ok=True, step="credentials", message=words[grant.kind])


def _credentials_failed(error: EngineError) -> Finding:
    remedy = (
        "for a virtual machine: give it a managed identity; elsewhere set credential, client_id "
        'or the AZURE_* environment of azure-identity; or use auth = "key"'
    )
    if isinstance(error, AuthenticationError) and "token" not in str(error):
        remedy = "put the key where one of these places is, see docs/engines-azure.md"
    return Finding(ok=False, step="credentials", message=str(error), remedy=remedy)


_REMEDIES: tuple[tuple[type[EngineError], str], ...] = (
    (ThrottledError, "lower max_sessions, or ask for a larger quota; the credentials are right"),
    (InvalidAudioError, "check languages, endpoint_id, segmentation and raw properties"),
)


def _transcription(settings: Settings, source: Source) -> Finding:
    limit_s = min(LONGEST_S, settings.stall_timeout or LONGEST_S)  # 0 is none: a check has one
    quick = msgspec.structs.replace(settings, stall_timeout=limit_s)
    try:
        list(Conversation(quick, source, _Silence()).segments())
    except EngineError as error:
        remedy = _remedy(settings, error)
        finding = Finding(ok=False, step="transcription", message=str(error), remedy=remedy)
        raise StepFailedError([finding]) from None
    message = f"{SILENCE_S:.0f} s of silence were transcribed: the engine is ready"
    return Finding(ok=True, step="transcription", message=message)


def _remedy(settings: Settings, error: EngineError) -> str:
    if isinstance(error, AuthenticationError):
        return _authentication_remedy(settings)
    if isinstance(error, EngineUnavailableError) and "BadRequest" in str(error):
        return "check languages, endpoint_id, segmentation and raw properties"
    for kind, remedy in _REMEDIES:
        if isinstance(error, kind):
            return remedy
    return "the address answers but does not transcribe: check that it is a Speech resource"


def _authentication_remedy(settings: Settings) -> str:
    if settings.auth == "key":
        return "the key must be one of this resource's two, and of the same region as the address"
    composed = "" if settings.resource_id else "; on a regional address set resource_id too"
    return (
        "assign the identity the role 'Cognitive Services Speech User' on the resource (it takes "
        f"minutes to act), and check that the resource has a custom domain{composed}"
    )
