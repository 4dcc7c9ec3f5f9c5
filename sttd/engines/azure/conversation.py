"""A job's way through the service: audio in, segments out, and how it ended.

One loop on the caller's thread fills the feed and empties the queue of events, so the audio's own
errors are raised here and no segment is held back. Sessions are `session`'s, decisions `errors`'.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

from sttd.engines import (
    Audio,
    AuthenticationError,
    EngineError,
    EngineUnavailableError,
    Segment,
    ThrottledError,
    TransientEngineError,
)
from sttd.engines.azure import cleanup
from sttd.engines.azure.errors import Ending, start_error
from sttd.engines.azure.events import (
    Broken,
    Canceled,
    Connected,
    Disconnected,
    Event,
    Phrase,
    Room,
    Stopped,
)
from sttd.engines.azure.feed import Feed
from sttd.engines.azure.grants import Grant
from sttd.engines.azure.guard import callbacks_guarded
from sttd.engines.azure.results import BrokenResultError, Results
from sttd.engines.azure.sdklog import Scrubber, logged
from sttd.engines.azure.session import Session
from sttd.engines.azure.settings import Settings
from sttd.engines.azure.sources import Source

TICK_S = 1.0  # how often the watchdog and the token are looked at while nothing happens
RENEW_AGAIN_S = 30.0  # after a renewal that failed
# A connection lost behind the end of the audio is made again, but the SDK has nothing left to send
# there and the service nothing to answer: neither would ever end it.
ORPHANED_S = 10.0


class Conversation:
    """One job. `wished`: it brought options of its own; `log`: a file for the SDK's, or ""."""

    def __init__(
        self,
        job: Settings,
        source: Source,
        audio: Audio,
        *,
        wished: bool = False,
        log: str = "",
    ) -> None:
        self._wished = wished
        self._log = log
        self._scrubber = Scrubber()
        self._job = job
        self._source = source
        self._audio = audio
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._feed = Feed(lambda: self._events.put(Room()))
        self._chunks: Iterator[bytes] | None = iter(audio)
        self._ending = Ending(wished=self._wished)
        self._progress_at = 0.0
        self._progress_taken = 0
        self._orphaned = False  # the connection was lost when all audio was sent
        self._renew_at = float("inf")
        self._tick_s = min(TICK_S, job.stall_timeout / 4 or TICK_S)
        language = job.languages[0] if len(job.languages) == 1 else None
        self._results = Results(audio.start_s, language, diarization=job.diarization)

    def segments(self) -> Iterator[Segment]:
        """Final segments in order of time. Raises the engine errors of `errors.TABLE`."""
        try:
            if not self._has_audio():
                return  # no samples: nothing to send, nothing said
            with logged(self._log, self._scrubber):
                yield from self._sessions()
        finally:
            cleanup.tidy()

    def _sessions(self) -> Iterator[Segment]:
        """One session, and another where the first was refused for a token that had expired."""
        grant = self._source.get()
        yield from self._session(grant)
        if self._ending.refused:
            yield from self._session(self._renewed(grant))
        error = self._ending.error(audio_taken=self._feed.drained)
        if error is not None:
            raise self._reconsidered(error, grant)

    def _renewed(self, refused: Grant) -> Grant:
        """Another grant after a refusal, once; the refusal itself where there is no other."""
        grant = self._source.get(refused.fingerprint)
        if grant.kind == "none" or grant.value == refused.value:
            error = self._ending.error(audio_taken=False)
            assert error is not None  # it was refused
            raise error
        self._ending = Ending(wished=self._wished)
        self._events = queue.SimpleQueue()
        return grant

    def _reconsidered(self, error: EngineError, grant: Grant) -> EngineError:
        """A token refused in mid-session is replaced; the next attempt goes on with the new one."""
        if not isinstance(error, AuthenticationError) or not self._ending.connected:
            return error
        if self._source.get(grant.fingerprint).value == grant.value:
            return error
        return TransientEngineError(f"the token was refused in mid-session and renewed: {error}")

    # -- one session -------------------------------------------------------------------------
    def _session(self, grant: Grant) -> Iterator[Segment]:
        session = Session(self._feed, self._events)
        try:
            with callbacks_guarded(lambda message: self._events.put(Broken(message))):
                self._start(session, grant)
                while not self._ending.over:
                    yield from self._step(session)
                if not self._ending.failed:
                    self._stop(session)
                yield from self._late()
                self._report()
        except EngineError as error:
            self._report(error)
            raise
        finally:
            session.close()

    def _start(self, session: Session, grant: Grant) -> None:
        self._progress_at = time.monotonic()
        self._renew_at = grant.renew_at
        password = self._source.proxy_password() if self._job.proxy else ""
        self._scrubber.hide(grant.value)
        self._scrubber.hide(password)
        try:
            session.start(self._job, grant, password, self._rest_s())
        except (RuntimeError, ValueError) as error:
            raise start_error(error, wished=self._wished) from None

    def _rest_s(self) -> float | None:
        whole_s = self._audio.duration_s
        return None if whole_s is None else whole_s - self._audio.start_s

    @staticmethod
    def _stop(session: Session) -> None:
        try:
            session.stop()
        except RuntimeError as error:  # whether the last phrases have arrived is not known
            raise TransientEngineError(f"the session could not be stopped: {error}") from None

    def _step(self, session: Session) -> Iterator[Segment]:
        """Put what there is room for, take what happened."""
        if self._ending.connected:
            self._fill()
        try:
            event: Event | None = self._events.get(timeout=self._tick_s)
        except queue.Empty:
            event = None
        while event is not None:
            yield from self._take(event)
            event = None if self._events.empty() else self._events.get()
        self._watch()
        self._renew(session)

    def _late(self) -> Iterator[Segment]:
        """What arrived while the session was being stopped."""
        while not self._events.empty():
            yield from self._take(self._events.get())

    def _take(self, event: Event) -> Iterator[Segment]:
        match event:
            case Phrase(json):
                self._progress_at = time.monotonic()
                self._ending.heard = True
                segment = self._read(json)
                if segment is not None:
                    yield segment
            case Canceled(reason, code, details):
                self._ending.canceled(reason, code, details)
            case Stopped():
                self._ending.stopped = True
            case Broken(message):
                self._ending.broken = message
            case Connected():
                self._progress_at = time.monotonic()
                self._ending.connected = self._ending.online = True
                self._feed.open()
            case Disconnected():
                self._ending.online = False
                self._orphaned = self._feed.drained
            case Room():
                pass  # the next step fills the feed

    def _read(self, json: str) -> Segment | None:
        try:
            return self._results.segment(json)
        except BrokenResultError as error:
            raise TransientEngineError(str(error)) from None

    # -- audio -------------------------------------------------------------------------------
    def _has_audio(self) -> bool:
        """Put the first chunk; False for a recording without samples."""
        assert self._chunks is not None
        chunk = next((c for c in self._chunks if c), None)
        if chunk is None:
            return False
        self._feed.put(chunk)
        return True

    def _fill(self) -> None:
        while self._chunks is not None and self._feed.has_room():
            chunk = next(self._chunks, None)
            if chunk is None:
                self._chunks = None
                self._feed.end()
            elif chunk:
                self._feed.put(chunk)

    # -- time --------------------------------------------------------------------------------
    def _watch(self) -> None:
        """Give up on a service that takes no audio and says nothing: the SDK never does."""
        now, taken = time.monotonic(), self._feed.taken
        if taken != self._progress_taken:
            self._progress_taken, self._progress_at = taken, now
        quiet_s = now - self._progress_at
        if self._ending.over:
            return
        if self._orphaned and quiet_s >= ORPHANED_S:
            raise TransientEngineError("the connection was lost at the end of the recording")
        if not self._job.stall_timeout or quiet_s < self._job.stall_timeout:
            return
        if self._ending.connected:
            silence = f"the service has said nothing for {quiet_s:.0f} s"
            if not self._ending.heard:
                # its fault or this recording's: whether others are heard, a probe will tell
                self._audio.report(EngineUnavailableError(silence))
            raise TransientEngineError(silence)
        raise EngineUnavailableError(f"no connection to the service within {quiet_s:.0f} s")

    def _renew(self, session: Session) -> None:
        """A newer token for the reconnections to come; one that fails is tried again."""
        if time.time() < self._renew_at:
            return
        try:
            grant = self._source.get()
        except EngineError:
            self._renew_at = time.time() + RENEW_AGAIN_S
            return
        self._scrubber.hide(grant.value)
        session.renew(grant)
        self._renew_at = max(grant.renew_at, time.time() + RENEW_AGAIN_S)

    def _report(self, error: EngineError | None = None) -> None:
        """Tell of the service's state before the clean-up, which may take seconds.

        A refusal is not told here: another token may be all that is needed.
        """
        error = error or self._ending.error(audio_taken=self._feed.drained)
        if isinstance(error, EngineUnavailableError | ThrottledError):
            self._audio.report(error)
