"""How a session ended: one table from the SDK's cancellations to what becomes of the job.

Decides only. The codes are those of `CancellationErrorCode` in the SDK (enums.py); what triggers
each was tried with SDK 1.53 against a local service (docs/engines-azure.md has the table in full).
"""

from __future__ import annotations

import enum
import re

from sttd.engines import (
    AuthenticationError,
    EngineError,
    EngineUnavailableError,
    InvalidAudioError,
    ThrottledError,
    TransientEngineError,
)

REASON_ERROR, REASON_END_OF_STREAM, REASON_BY_USER = 1, 2, 3  # CancellationReason

FORBIDDEN = 4
OBJECT_COUNT = "maximum object count"  # of the message when the tripwire is struck


class Verdict(enum.Enum):
    """What becomes of the job."""

    FAIL = "fail now"  # this recording or its options never will
    RETRY = "retry later"  # counts as an attempt
    THROTTLED = "throttled"  # fewer sessions, later; counts to nothing
    UNAUTHORIZED = "unauthorized"  # all jobs held until the credentials are accepted
    UNAVAILABLE = "unavailable"  # all jobs held, one probe now and then


# code, name: before the door opened, after it; and the words for the operator.
TABLE: dict[int, tuple[str, Verdict, Verdict, str]] = {
    # HTTP 401 and 403 at the upgrade: key or token refused, role assignment missing
    1: (
        "AuthenticationFailure",
        Verdict.UNAUTHORIZED,
        Verdict.UNAUTHORIZED,
        "the service refused the credentials: key, role assignment, region or endpoint",
    ),
    # HTTP 400: language or endpoint_id unknown, which no recording can help; close 1007, status
    # BadRequest: this audio or this job's options
    2: (
        "BadRequest",
        Verdict.UNAVAILABLE,
        Verdict.FAIL,
        "the service does not accept the request: check languages, endpoint_id and properties",
    ),
    # HTTP 429, close 4429, status TooManyRequests. Retry-After is not shown by the SDK
    3: (
        "TooManyRequests",
        Verdict.THROTTLED,
        Verdict.THROTTLED,
        "the resource's quota of concurrent requests is used up",
    ),
    # status Forbidden: a free resource that ran out of its monthly hours
    FORBIDDEN: (
        "Forbidden",
        Verdict.UNAVAILABLE,
        Verdict.UNAVAILABLE,
        "the resource may not be used now: a free tier's quota ran out, or it is disabled",
    ),
    # refused, name not found, TLS, close 1002 and 4000
    5: (
        "ConnectionFailure",
        Verdict.UNAVAILABLE,
        Verdict.UNAVAILABLE,
        "no connection to the service",
    ),
    # more than 66 s of audio without a final phrase, or no turn.end after stop
    6: (
        "ServiceTimeout",
        Verdict.UNAVAILABLE,
        Verdict.RETRY,
        "the service accepted audio and did not answer",
    ),
    # HTTP 404 and 500 at the upgrade: the service or its address; status Error: this phrase;
    # close 1011 to 1014 again and again
    7: ("ServiceError", Verdict.UNAVAILABLE, Verdict.RETRY, "the service failed"),
    8: (
        "ServiceUnavailable",
        Verdict.UNAVAILABLE,
        Verdict.UNAVAILABLE,
        "the service is not available",
    ),
    9: ("RuntimeError", Verdict.RETRY, Verdict.RETRY, "the Speech SDK failed"),
    # never seen by callers, says the SDK's documentation
    10: (
        "ServiceRedirectTemporary",
        Verdict.UNAVAILABLE,
        Verdict.RETRY,
        "the service redirected the connection",
    ),
    11: (
        "ServiceRedirectPermanent",
        Verdict.UNAVAILABLE,
        Verdict.RETRY,
        "the service redirected the connection",
    ),
    12: ("EmbeddedModelError", Verdict.RETRY, Verdict.RETRY, "the Speech SDK failed"),
    # an error without a code: nothing is known of it
    0: ("NoError", Verdict.RETRY, Verdict.RETRY, "the session was cancelled"),
}

_ERRORS: dict[Verdict, type[EngineError]] = {
    Verdict.FAIL: InvalidAudioError,
    Verdict.RETRY: TransientEngineError,
    Verdict.THROTTLED: ThrottledError,
    Verdict.UNAUTHORIZED: AuthenticationError,
    Verdict.UNAVAILABLE: EngineUnavailableError,
}

# Websocket close codes by which a service speaks of itself (IANA's registry, RFC 6455 7.4.1):
# internal error, restart, try again later, bad gateway. The SDK reconnects until it gives up.
_ITS_OWN_FAULT = re.compile(r"Error code: 101[1-4]\b")
# A used-up quota also comes as close 1007 with this reason, which otherwise is bad audio
# (users' reports: cognitive-services-speech-sdk #1940, #2785)
_QUOTA = re.compile(r"quota exceeded", re.IGNORECASE)
_AT_THE_DOOR = re.compile(r"upgrade failed|WS_OPEN_ERROR", re.IGNORECASE)
_INVALID = re.compile(r"SPXERR_INVALID_ARG|^5$")  # the SDK's Python layer may say the bare code
_STACK = re.compile(r"\[CALL STACK BEGIN\].*?\[CALL STACK END\]", re.DOTALL)
_SECRETS = (
    (re.compile(r"(?i)(bearer\s+|aad#\S*?#)\S+"), r"\1..."),
    (re.compile(r"(?i)((?:subscription-?)?key|token|authorization|sig|code)=[^&\s]+"), r"\1=..."),
    (re.compile(r"\beyJ[\w.-]{20,}"), "..."),
)


def error_for(
    code: int, details: str, *, connected: bool, heard: bool = False, wished: bool = False
) -> EngineError:
    """The engine error for a cancellation with `CancellationErrorCode` `code`.

    `connected` tells whether this session's door was ever open: a service that fails before is
    away for everybody, one that fails after may have stumbled over this recording. A reconnection
    that fails at the door counts as before; so does a service that closes because of itself before
    anything was `heard`. `wished` tells that the job brought options of its own:
    a request the service does not understand is then this job's fault, not everybody's.
    """
    if _QUOTA.search(details):
        code = FORBIDDEN
    name, before, after, words = TABLE.get(code, TABLE[0])
    at_the_door = not connected or _AT_THE_DOOR.search(details) is not None
    ill = not heard and _ITS_OWN_FAULT.search(details) is not None
    verdict = before if at_the_door or ill else after
    if name == "BadRequest" and wished:
        verdict = Verdict.FAIL
    return _ERRORS[verdict](f"{words} ({name}: {scrubbed(details)})")


def scrubbed(details: str) -> str:
    """The SDK's words in one short line, with nothing secret and nothing that was said."""
    details = _STACK.sub("", details).partition("Response text:")[0]  # may quote what was said
    for pattern, replacement in _SECRETS:
        details = pattern.sub(replacement, details)
    return " ".join(details.split())[:500]


def start_error(error: Exception, *, wished: bool) -> EngineError:
    """The engine error for a session that the SDK would not even begin.

    Its arguments are at fault, as a rule: the configuration's, which concern everybody, or the
    job's own. The tripwire for leaked objects is this worker's. Where a job has wishes and it is
    not said that an argument is wrong, the machine may be at fault as well: no job fails of that
    at once.
    """
    details = scrubbed(str(error))
    if OBJECT_COUNT in details:
        return TransientEngineError(f"this worker holds too many SDK objects: {details}")
    kind: type[EngineError] = EngineUnavailableError
    if wished:
        argument = isinstance(error, ValueError) or _INVALID.search(details)
        kind = InvalidAudioError if argument else TransientEngineError
    return kind(f"the Speech SDK refuses to begin a session: {details}")


class Ending:
    """Collects how a session ends; success is decided once, from the whole sequence.

    The order varies (tried): at the end of audio it is canceled(EndOfStream), session_stopped; on
    an error canceled(Error), session_stopped, sometimes canceled(Error) again; after a stop that
    timed out session_stopped, canceled(Error). So session_stopped alone proves nothing.
    """

    def __init__(self, *, wished: bool = False) -> None:
        self._wished = wished
        self.connected = False  # at least once
        self.heard = False  # a phrase, of whatever status
        self.online = False  # now
        self.stopped = False
        self.end_of_stream = False
        self.broken = ""  # an exception inside a callback: something was lost
        self._error: tuple[int, str] | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to be waited for, but what stopping the session brings."""
        return self.stopped or self.end_of_stream or self.failed

    @property
    def failed(self) -> bool:
        """Whether it went wrong already."""
        return self._error is not None or bool(self.broken)

    def canceled(self, reason: int, code: int, details: str) -> None:
        """A cancellation event; the first error is the one that counts."""
        if reason == REASON_END_OF_STREAM and not code:
            self.end_of_stream = True
        elif self._error is None:
            self._error = (code, details or f"cancelled, reason {reason}")

    @property
    def refused(self) -> bool:
        """Whether the credentials were refused before any audio was taken."""
        return self._error is not None and self._error[0] == 1 and not self.connected

    def error(self, *, audio_taken: bool) -> EngineError | None:
        """None for success. `audio_taken`: the SDK read the audio up to its end."""
        if self.broken:
            return TransientEngineError(f"an event of the Speech SDK was lost: {self.broken}")
        if self._error is not None:
            return error_for(
                *self._error, connected=self.connected, heard=self.heard, wished=self._wished
            )
        if not self.end_of_stream and not self.online:
            return EngineUnavailableError("the connection to the service was lost")
        if not self.end_of_stream:
            return TransientEngineError("the session stopped before the end of the audio")
        if not audio_taken:
            return TransientEngineError("the session ended before it had taken all audio")
        return None
