"""The `[engine.azure]` section, checked, and what one job makes of it.

Values only: it opens nothing and imports no SDK, so that a helper and the supervisor's checks can
afford it. Limits are the service's own, from Microsoft's documentation as named beside them.
"""

from __future__ import annotations

import difflib
import re
import urllib.parse
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from sttd.engines import InvalidAudioError, TranscribeOptions

# learn.microsoft.com: Speech service, "Implement language identification", 2025-03-10.
MOST_LANGUAGES = {"start": 4, "continuous": 10}
MOST_PHRASES = 500  # "Improve recognition accuracy with phrase list"
SDK_PACE = 2.0  # times real time: what the SDK does by itself after the first five seconds

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

Seconds = Annotated[float, msgspec.Meta(ge=0)]
EndpointId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{0,64}$")]
Ms = Annotated[int, msgspec.Meta(ge=0)]


class SettingsError(ValueError):
    """The configuration is wrong; the message names the key and the remedy."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section as configured. docs/engines-azure.md says what each key is for."""

    # where
    region: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]*$")] = ""
    endpoint: str = ""
    host: str = ""
    proxy: str = ""  # http://[user@]host:port
    proxy_credential: str = ""  # credential name of the proxy's password
    # who
    auth: Literal["entra", "key", "none"] = "entra"
    key: str = ""  # a credential's name
    credential: Literal[
        "default", "managed-identity", "workload-identity", "cli", "environment"
    ] = "default"
    client_id: str = ""  # of a user-assigned managed identity
    resource_id: str = ""  # /subscriptions/...: needed by Entra tokens on a regional address
    scope: str = "https://cognitiveservices.azure.com/.default"
    # what
    languages: tuple[str, ...] = ("en-US",)
    language_id: Literal["start", "continuous"] = "continuous"
    diarization: bool = True
    profanity: Literal["masked", "removed", "raw"] = "masked"
    phrases: tuple[str, ...] = ()
    phrase_weight: Annotated[float, msgspec.Meta(ge=0, le=2)] = 1.0
    endpoint_id: EndpointId = ""  # of a custom model
    segmentation_silence_ms: Ms = 0  # 0: the service's own; else 100 to 5000
    max_phrase_ms: Ms = 0  # 0: the service's own; else 20000 to 70000
    # how
    # the SDK begins no session below real time (SPXERR_INVALID_ARG; tried with 1.53)
    pace: Annotated[float, msgspec.Meta(ge=1, le=100)] = SDK_PACE
    max_sessions: Annotated[int, msgspec.Meta(ge=1)] = 20
    resume: Literal["continue", "restart"] = "continue"
    stall_timeout: Seconds = 50.0
    max_objects: Annotated[int, msgspec.Meta(ge=50)] = 500  # live native SDK objects a process
    properties: dict[str, str] = {}  # raw SDK properties, set last


JOB_KEYS = (  # what a job may ask for beside the fields of TranscribeOptions
    "endpoint_id",
    "language_id",
    "max_phrase_ms",
    "pace",
    "phrase_weight",
    "segmentation_silence_ms",
)


def read_settings(options: Mapping[str, object]) -> Settings:
    """The section as a value. Raises SettingsError naming key and remedy."""
    plain = dict(options)
    _refuse_unknown(plain, Settings.__struct_fields__, SettingsError, "[engine.azure]")
    if "stall_timeout" in plain:
        plain["stall_timeout"] = _seconds("stall_timeout", plain["stall_timeout"])
    try:
        settings = msgspec.convert(plain, Settings)
        _check_address(settings)
        _check_wishes(settings)
    except ValueError as error:  # msgspec's own is one
        raise SettingsError(f"[engine.azure] {error}") from None
    return settings


def check_token(settings: Settings, environ: Mapping[str, str]) -> None:
    """Refuse what no token of Entra opens; raises SettingsError.

    Not a part of `read_settings`: a worker does not see the token in the daemon's environment,
    and that one may be composed already.
    """
    if settings.auth != "entra" or not settings.region or settings.resource_id:
        return
    if not environ.get("AZURE_ACCESS_TOKEN", "").strip().startswith("aad#"):
        raise SettingsError(
            '[engine.azure] auth = "entra" with region needs resource_id = "/subscriptions/..."; '
            "or give endpoint, the resource's own address, instead of region"
        )


def for_job(settings: Settings, options: TranscribeOptions) -> Settings:
    """The configuration with one job's wishes laid over it.

    Only harmless keys may come with a job: no address, no credential, no raw property, for a job
    that could send the daemon's token elsewhere would be a way to steal it.

    Raises:
        InvalidAudioError: a wish can never be granted; the job fails at once.
    """
    extra = dict(options.extra)
    _refuse_unknown(extra, JOB_KEYS, InvalidAudioError, "the job's options:")
    wishes: dict[str, Any] = {
        "languages": options.languages,
        "phrases": options.phrases,
        "diarization": options.diarization,
        "profanity": options.profanity,
    }
    given = {name: value for name, value in wishes.items() if value not in (None, ())}
    try:
        job = msgspec.convert(msgspec.to_builtins(settings) | given | extra, Settings)
        _check_wishes(job)
    except ValueError as error:
        raise InvalidAudioError(f"the job's options: {error}") from None
    return job


def _refuse_unknown(
    given: Mapping[str, object],
    known: tuple[str, ...],
    error: type[Exception],
    where: str,
) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise error(f"{where} unknown key {name!r}: {hint}")


def _check_address(settings: Settings) -> None:
    given = [n for n in ("region", "endpoint", "host") if getattr(settings, n)]
    if len(given) != 1:
        count = "none is set (sttd init asks for it)"
        if given:
            count = f"{' and '.join(given)} are set"
        raise ValueError(f"give exactly one of region, endpoint and host: {count}")
    for name in ("endpoint", "host"):
        value = getattr(settings, name)
        if value and not re.match(r"(wss?|https?)://[^/\s]+", value):
            raise ValueError(f"{name} = {value!r}: an address like wss://host:port is needed")
        if value:
            _check_parts(name, value)
    if settings.auth == "key" and not settings.key and not settings.host:
        raise ValueError('auth = "key" needs key = "the credential\'s name"')
    if settings.auth == "none" and settings.region:
        raise ValueError('auth = "none" is for containers: give host instead of region')
    if settings.proxy and not re.fullmatch(r"(http://)?([^@\s]+@)?[^:/\s]+:\d+/?", settings.proxy):
        raise ValueError(f"proxy = {settings.proxy!r}: http://[user@]host:port is needed")
    if settings.proxy:
        _check_parts("proxy", f"//{settings.proxy.removeprefix('http://')}")


def _check_parts(name: str, url: str) -> None:
    """Whether there can be such a host and port: else whoever connects fails by another error."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{name}: {host!r} can be no host's name: check its dots") from None
    except ValueError as error:
        raise ValueError(f"{name} is no address: {error}") from None
    if not host or port == 0:
        raise ValueError(f"{name} is no address: it needs a host, and no port or one from 1")


def _check_wishes(settings: Settings) -> None:
    _check_languages(settings)
    if len(settings.phrases) > MOST_PHRASES:
        raise ValueError(f"phrases: at most {MOST_PHRASES}, not {len(settings.phrases)}")
    for name, least, most in (
        ("segmentation_silence_ms", 100, 5000),
        ("max_phrase_ms", 20_000, 70_000),
    ):
        value = getattr(settings, name)
        if value and not least <= value <= most:
            raise ValueError(f"{name} = {value}: between {least} and {most}, or 0")
    if settings.max_phrase_ms and not settings.segmentation_silence_ms:
        raise ValueError("max_phrase_ms needs segmentation_silence_ms")


def _check_languages(settings: Settings) -> None:
    languages = settings.languages
    if not languages:
        raise ValueError('languages: name at least one, like ["en-US"]')
    for language in languages:
        if not _LANGUAGE.fullmatch(language):
            raise ValueError(f"languages: {language!r} is no locale; one looks like 'en-US'")
    if len(languages) == 1:
        return
    most = MOST_LANGUAGES[settings.language_id]
    if len(languages) > most:
        raise ValueError(
            f"languages: the service identifies at most {most} with "
            f'language_id = "{settings.language_id}", not {len(languages)}'
        )
    bases = [language.split("-")[0].lower() for language in languages]
    twice = next((base for base in bases if bases.count(base) > 1), None)
    if twice:
        raise ValueError(f"languages: only one locale of {twice!r} can be identified at a time")


def _seconds(name: str, value: object) -> object:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d|)\s*", str(value))
    if isinstance(value, str) and match is None:
        raise SettingsError(f"[engine.azure] {name} = {value!r}: a time like '50s' is needed")
    return float(match[1]) * _SECONDS[match[2]] if isinstance(value, str) and match else value
