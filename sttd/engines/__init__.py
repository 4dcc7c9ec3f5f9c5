"""The public plug-in interface: what an engine is given, what it yields, what it may raise.

An engine runs inside a worker process, one job at a time, synchronously. It knows nothing of
processes, ledgers or sockets. Nothing here may import the rest of sttd except `transcripts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, Protocol

import msgspec

from sttd.transcripts import Segment, Word

__all__ = [
    "Audio",
    "AuthenticationError",
    "Engine",
    "EngineError",
    "EngineUnavailableError",
    "InvalidAudioError",
    "Segment",
    "ThrottledError",
    "TranscribeOptions",
    "TransientEngineError",
    "Word",
]

SAMPLE_RATE = 16_000  # Hz; with 16-bit mono, 32,000 bytes a second
BYTES_PER_SECOND = SAMPLE_RATE * 2


class EngineError(Exception):
    """An engine's failure; the message is shown to the operator."""


class TransientEngineError(EngineError):
    """The attempt failed and may succeed later: retried with backoff, counted as an attempt."""


class ThrottledError(EngineError):
    """The service asks for less: the job waits, nothing is counted against it."""

    def __init__(self, message: str = "throttled", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineUnavailableError(EngineError):
    """The service is away: jobs are held and one probe goes out now and then."""


class AuthenticationError(EngineError):
    """The credentials were refused: jobs are held until they are accepted."""


class InvalidAudioError(EngineError):
    """This recording can never be transcribed: the job fails at once."""


class TranscribeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One job's wishes, from its sidecar or its submission; None means the configured value.

    `extra` holds the engine's own options as the sender wrote them (the sidecar's `options`).
    `log` is the absolute path of a file for what the engine, or the library below it, has to say
    of this job ("" unless the sender set `sdk_log`): bounded by the engine, appended to by a later
    attempt, free of secrets.
    """

    languages: tuple[str, ...] = ()
    diarization: bool | None = None
    phrases: tuple[str, ...] = ()
    profanity: Literal["masked", "removed", "raw"] | None = None
    extra: Mapping[str, object] = {}
    log: str = ""


class Audio(Protocol):
    """A recording as a stream of mono signed 16-bit little-endian 16 kHz PCM.

    Iterate once. Chunks are bytes, a whole number of samples, at most 64 KiB each.
    """

    name: str  # the source's name, for messages
    path: str  # the claimed original, for engines that must read it themselves
    duration_s: float | None  # None where the container does not say
    start_s: float  # where the stream begins; non-zero when a job is resumed

    def __iter__(self) -> Iterator[bytes]: ...

    def report(self, error: EngineError) -> None:
        """Tell the daemon of the service's state now, before a clean-up that takes long."""


class Engine(Protocol):
    """Built once, in the template, before workers are forked: load models here, start no thread.

    An engine may also define `begin_worker(self) -> None`, called once in each worker after the
    fork, and `end_worker(self) -> None`, called before the worker leaves, and
    `handles(self) -> Mapping[str, int]`, which counts its live native objects by kind for
    `sttctl memory --deep`; called in an idle worker.
    """

    name: str
    version: str
    start: ClassVar[Literal["fork", "spawn"]] = "fork"

    def __init__(self, options: Mapping[str, object]) -> None: ...

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        """Yield final segments in order of time.

        The caller closes the iterator to cancel: release everything in `finally`.
        """
        ...
