"""Where a worker gets its grant: from the broker's socket, or by itself when there is none.

One interface, two sources. Nothing is kept longer than the cache needs it, nothing is logged.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from sttd.credentials import CredentialError, read_credential
from sttd.engines import AuthenticationError, EngineError, EngineUnavailableError
from sttd.engines.azure.grants import Grant, expiry_of
from sttd.engines.azure.identity import FETCH_LIMIT_S, Fetched, Wanted, fetch
from sttd.engines.azure.settings import Settings

BROKER_VARIABLE = "STTD_HELPER_SOCKET"
TOKEN_VARIABLE = "AZURE_ACCESS_TOKEN"  # noqa: S105  the name of a variable, no secret
ASK_LIMIT_S = 45.0  # longer than the broker's own fetch, so that its reason arrives
REPEAT_REFUSED_S = 30.0  # an identity that gives the refused token again is not asked more often
REPEAT_FAILED_S = 10.0
# While the token at hand is good for minutes still, nobody waits long for the next one.
EARLY_LIMIT_S = 10.0
REPEAT_EARLY_S = 60.0


class Source(Protocol):
    """Gives grants."""

    def get(self, refused: str = "") -> Grant:
        """A grant that is good for minutes. `refused`: fingerprint of one the service refused.

        Raises:
            AuthenticationError: there is none to be had.
            EngineUnavailableError: whoever issues it is away.
        """
        ...

    def proxy_password(self) -> str:
        """The secret behind `proxy_credential`, "" where none is configured."""
        ...


class OwnSource:
    """Reads keys and fetches tokens itself, caching one token until it must be renewed."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._environ = environ
        self._cached: Grant | None = None
        self._failed: tuple[float, EngineError] | None = None

    def get(self, refused: str = "") -> Grant:
        """See `Source.get`."""
        if self._settings.auth == "key" and self._settings.key:
            return Grant(kind="key", value=self._secret(self._settings.key))
        if self._settings.auth != "entra":
            return Grant(kind="none")
        given = self._environ.get(TOKEN_VARIABLE, "").strip()
        if given:
            return self._given(given)
        return self._fetched(refused)

    def proxy_password(self) -> str:
        """See `Source.proxy_password`."""
        name = self._settings.proxy_credential
        return self._secret(name) if name else ""

    def _secret(self, name: str) -> str:
        try:
            return read_credential(name, self._environ)
        except CredentialError as error:
            raise AuthenticationError(str(error)) from None

    def _given(self, token: str) -> Grant:
        expires_at = expiry_of(token)
        if expires_at is not None and expires_at <= time.time():
            raise AuthenticationError(f"the token in ${TOKEN_VARIABLE} has expired")
        if self._settings.resource_id:
            token = self._composed(token)
        return Grant(kind="token", value=token, expires_at=None)

    def _fetched(self, refused: str) -> Grant:
        now, cached = time.time(), self._cached
        fresh = cached is not None and now < cached.renew_at
        if cached is not None and fresh and not self._worth_another(cached, refused, now):
            return cached
        good = cached is not None and now < (cached.expires_at or 0.0) and not refused
        pause_s = REPEAT_EARLY_S if good else REPEAT_FAILED_S
        if self._failed is not None and _within(pause_s, self._failed[0], now):
            return self._second_best(now, self._failed[1])
        answer = fetch(self._wanted(), EARLY_LIMIT_S if good else FETCH_LIMIT_S)
        if answer.problem:
            error = _error_of(answer)
            self._failed = (time.time(), error)
            return self._second_best(now, error)
        self._failed = None
        self._cached = self._grant_of(answer)
        return self._cached

    def _worth_another(self, cached: Grant, refused: str, now: float) -> bool:
        """Whether the cached token is the refused one and was not fetched a moment ago."""
        lately = _within(REPEAT_REFUSED_S, cached.issued_at, now)
        return refused == cached.fingerprint and not lately

    def _second_best(self, now: float, error: EngineError) -> Grant:
        """A token near its end opens the door still; only without one it is an error."""
        if self._cached is not None and now < (self._cached.expires_at or 0.0):
            return self._cached
        raise error

    def _grant_of(self, answer: Fetched) -> Grant:
        return Grant(
            kind="token",
            value=self._composed(answer.token),
            issued_at=time.time(),
            expires_at=answer.expires_at,
        )

    def _composed(self, token: str) -> str:
        """What the service wants of an Entra token: bare on a custom domain, else with the id.

        learn.microsoft.com: "Configure Microsoft Entra authentication" for the Speech service.
        """
        if token.startswith("aad#"):
            return token
        if self._settings.resource_id:
            return f"aad#{self._settings.resource_id}#{token}"
        if self._settings.region:
            raise AuthenticationError(
                "[engine.azure] an Entra token on a regional address needs resource_id = "
                '"/subscriptions/..."; or give endpoint = "https://NAME.cognitiveservices.azure.com/"'
            )
        return token

    def _wanted(self) -> Wanted:
        settings = self._settings
        return Wanted(
            scope=settings.scope, credential=settings.credential, client_id=settings.client_id
        )


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker asks the broker: one line of JSON, one connection for each question."""

    ask: Literal["grant", "proxy_password"] = "grant"
    refused: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker says. `problem` names the engine error to be raised."""

    grant: Grant | None = None
    secret: str = ""
    problem: Literal["", "authentication", "unavailable"] = ""
    message: str = ""


class BrokerSource:
    """Asks the broker: the secret comes when it is needed and goes with the job."""

    def __init__(self, path: str, limit_s: float = ASK_LIMIT_S) -> None:
        self._path = path
        self._limit_s = limit_s

    def get(self, refused: str = "") -> Grant:
        """See `Source.get`."""
        grant = self._ask(Question(refused=refused)).grant
        if grant is None:
            raise EngineUnavailableError("the credential helper's answer was empty")
        return grant

    def proxy_password(self) -> str:
        """See `Source.proxy_password`."""
        return self._ask(Question(ask="proxy_password")).secret

    def _ask(self, question: Question) -> Answer:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(self._limit_s)
                line.connect(self._path)
                line.sendall(msgspec.json.encode(question) + b"\n")
                with line.makefile("rb") as reader:
                    answer = msgspec.json.decode(reader.readline(), type=Answer)
        except (OSError, msgspec.DecodeError) as error:
            raise EngineUnavailableError(
                f"the credential helper does not answer: {error}"
            ) from None
        if answer.problem == "authentication":
            raise AuthenticationError(answer.message)
        if answer.problem == "unavailable":
            raise EngineUnavailableError(answer.message)
        return answer


def source_for(settings: Settings, environ: Mapping[str, str] = os.environ) -> Source:
    """The broker where the supervisor started one, else oneself."""
    path = environ.get(BROKER_VARIABLE)
    # whoever waits for a token makes no progress: it must say so before the daemon thinks it hangs
    limit_s = min(ASK_LIMIT_S, settings.stall_timeout or ASK_LIMIT_S)
    return BrokerSource(path, limit_s) if path else OwnSource(settings, environ)


def _within(seconds: float, then: float, now: float) -> bool:
    """Whether `then` is that near; what lies ahead is of a clock that was set back since."""
    return 0.0 <= now - then < seconds


def _error_of(answer: Fetched) -> EngineError:
    if answer.problem == "refused":
        return AuthenticationError(f"no token: {answer.message}")
    return EngineUnavailableError(f"no token: {answer.message}")
