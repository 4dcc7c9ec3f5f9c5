"""One session of the real Speech SDK: built, started, renewed, taken down. Nothing else.

It composes a ConversationTranscriber, for a subclass's `__del__` recurses in SDK 1.53. Callbacks do
nothing but put an event on the queue, and none of them refers to the session or the transcriber, so
that no cycle keeps native objects alive.
"""

from __future__ import annotations

import functools
import queue
from typing import Any

import azure.cognitiveservices.speech as sdk
from azure.cognitiveservices.speech.transcription import ConversationTranscriber

from sttd.engines.azure import configuration, native
from sttd.engines.azure.cleanup import Remains, take_down
from sttd.engines.azure.events import Canceled, Connected, Disconnected, Event, Phrase, Stopped
from sttd.engines.azure.feed import Feed
from sttd.engines.azure.grants import Grant
from sttd.engines.azure.pull import PullStream
from sttd.engines.azure.settings import Settings


class Session:
    """The SDK's objects for one recording, and their order of life and death.

    Whatever happens in `start`, `close` must follow.
    """

    def __init__(self, feed: Feed, events: queue.SimpleQueue[Event]) -> None:
        self._feed = feed
        self._events = events
        self._stream: PullStream | None = None
        self._remains = Remains()
        self._transcriber: Any = None

    def start(
        self,
        job: Settings,
        grant: Grant,
        proxy_password: str = "",
        rest_s: float | None = None,
    ) -> None:
        """Build and begin, for `rest_s` of audio. Raises RuntimeError or ValueError as the SDK."""
        keep = self._remains
        config = configuration.speech_config(job, grant, proxy_password, rest_s)
        read = functools.partial(self._feed.read, self._feed.session)
        stream = self._stream = PullStream(read)
        keep.parts.append(stream)
        audio = sdk.audio.AudioConfig(stream=stream)
        keep.parts.append(audio)
        languages = configuration.language_arguments(job)
        transcriber = ConversationTranscriber(config, audio, **languages)
        keep.transcriber = self._transcriber = transcriber
        keep.connection = sdk.Connection.from_recognizer(transcriber)
        self._listen()
        if job.phrases:
            keep.parts.append(_phrase_list(transcriber, job))
        keep.futures.append(transcriber.start_transcribing_async())
        keep.resolve()

    def renew(self, grant: Grant) -> None:
        """Give the next reconnection a newer token (the SDK's own setter is broken in 1.53)."""
        token = sdk.PropertyId.SpeechServiceAuthorization_Token
        self._transcriber.properties.set_property(token, grant.value)

    def stop(self) -> None:
        """End a session that went well; events may still arrive until this returns."""
        self._remains.futures.append(self._transcriber.stop_transcribing_async())
        self._remains.resolve()

    def close(self) -> bool:
        """Take everything down, within a limit; whether that ended in time."""
        self._feed.leave()
        if self._stream is not None:
            self._stream.close()
        self._stream = self._transcriber = None
        remains, self._remains = self._remains, Remains()
        return take_down(remains)

    def _listen(self) -> None:
        keep, put = self._remains, self._events.put
        keep.ticket = native.listen(keep.transcriber, lambda text: put(Phrase(text)))
        for signal, callback in (
            (keep.transcriber.canceled, lambda event: put(_canceled(event))),
            (keep.transcriber.session_stopped, lambda _: put(Stopped())),
            (keep.connection.connected, lambda _: put(Connected())),
            (keep.connection.disconnected, lambda _: put(Disconnected())),
        ):
            signal.connect(callback)
            keep.signals.append(signal)


def _canceled(event: Any) -> Canceled:
    details = event.cancellation_details
    return Canceled(details.reason.value, details.code.value, details.error_details)


def _phrase_list(transcriber: Any, job: Settings) -> Any:
    phrases = sdk.PhraseListGrammar.from_recognizer(transcriber)
    for phrase in job.phrases:
        phrases.addPhrase(phrase)
    phrases.setWeight(job.phrase_weight)
    return phrases
