"""One job in a worker: listen, commit segments, write the outputs, tell how it went.

Runs the engine and turns whatever it raises into one `Failed`; publishes nothing (the supervisor
renames the outputs into place) and decides no retry.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sttd import layouts
from sttd.engines import (
    AuthenticationError,
    Engine,
    EngineError,
    EngineUnavailableError,
    InvalidAudioError,
    Segment,
    ThrottledError,
    TranscribeOptions,
    TransientEngineError,
)
from sttd.wire.journal import SDK_LOG
from sttd.wire.messages import Done, EngineReport, Failed, Progress, Run, ToWorker
from sttd.wire.options import JobOptions
from sttd.worker import leaving
from sttd.worker.audio import DecodedAudio, DecoderDiedError
from sttd.worker.channel import Channel
from sttd.worker.journal import Journal
from sttd.worker.outputs import write_outputs
from sttd.worker.tidy import Tidier
from sttd.worker.yielded import checked

LONG_S = 60.0  # from this length on the duration is told at once, not with the first progress
WISHES = msgspec.json.Decoder(JobOptions)
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

KINDS: list[tuple[type[EngineError], str, str]] = [
    (InvalidAudioError, "invalid", "invalid_audio"),
    (ThrottledError, "throttled", "throttled"),
    (EngineUnavailableError, "unavailable", "unavailable"),
    (AuthenticationError, "unauthorized", "unauthorized"),
    (TransientEngineError, "transient", "transient"),
]


def _nothing() -> None:
    """What an iterator without `close` has to release."""


class Gossip:
    """What a worker tells the supervisor."""

    def __init__(self, channel: Channel[ToWorker], generation: int) -> None:
        self.generation = generation
        self.send = channel.send

    def engine(self, error: EngineError) -> None:
        """The service's state, ahead of the attempt's end."""
        kind, _ = classify(error)
        self.send(EngineReport(generation=self.generation, kind=kind, message=message_of(error)))


def classify(error: BaseException) -> tuple[str, str]:
    """The failure kind (of `core.retry`) and the error code for what an engine raised."""
    for family, kind, code in KINDS:
        if isinstance(error, family):
            return kind, str(getattr(error, "code", code))
    if isinstance(error, DecoderDiedError):
        return "crashed", "crashed"
    if isinstance(error, OSError) and error.errno in FULL:
        return "environment", "environment"
    return "failed", "failed"


def message_of(error: BaseException) -> str:
    """One line for people, and text: an error that names a file may hold what is none."""
    text = " ".join(str(error).split())[:1000].encode("utf-8", "backslashreplace").decode()
    if isinstance(error, EngineError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _pause_of(error: BaseException) -> float | None:
    """How long the engine wants to wait, if that is a number: it may be a header's text."""
    try:
        pause_s = float(getattr(error, "retry_after_s", None) or 0.0)
    except (TypeError, ValueError):
        return None
    return pause_s if 0.0 < pause_s < math.inf else None


class JobRunner:
    """Runs jobs one after another with the same engine and decoder."""

    def __init__(
        self,
        engine: Engine,
        gossip: Gossip,
        decoder: socket.socket,
        tidier: Tidier,
        callback_failures: list[str],
    ) -> None:
        self._engine = engine
        self._gossip = gossip
        self._decoder = decoder
        self._tidier = tidier
        self._callback_failures = callback_failures

    def run(self, run: Run) -> bool:
        """Do the job and report; False when the decoder is gone and the worker must end."""
        self._callback_failures.clear()
        attempt = Attempt(run, self._gossip)
        try:
            report: Done | Failed = self._transcribe(run, attempt)
        except Exception as error:  # noqa: BLE001 (an engine may raise anything)
            leaving.insist()
            report = attempt.failed(error)
        finally:
            attempt.close()
        del attempt
        before, after = self._tidier.tidy()
        report = msgspec.structs.replace(report, rss_before=before, rss_after=after)
        self._gossip.send(report)
        return not (isinstance(report, Failed) and report.leaving)

    def _transcribe(self, run: Run, attempt: Attempt) -> Done:
        wishes = WISHES.decode(run.options)
        options = TranscribeOptions(
            languages=wishes.languages,
            diarization=wishes.diarization,
            phrases=wishes.phrases,
            profanity=wishes.profanity,
            extra=wishes.options,
            log=os.path.join(run.spool, SDK_LOG) if wishes.sdk_log else "",
        )
        audio = attempt.open(self._decoder)
        try:
            segments = self._engine.transcribe(audio, options)
            try:
                attempt.listen(segments)
            finally:
                getattr(segments, "close", _nothing)()  # lets the engine release everything
            leaving.insist()
            if self._callback_failures:
                raise RuntimeError(f"inside a callback: {self._callback_failures[0]}")
            audio.count()
        finally:
            audio.close()
        return attempt.write(self._engine, wishes.languages)


class Attempt:
    """The state of one attempt; every message about it carries the same four marks."""

    def __init__(self, run: Run, gossip: Gossip) -> None:
        self._run = run
        self._gossip = gossip
        self._journal: Journal | None = None
        self._audio: DecodedAudio | None = None

    @property
    def journal(self) -> Journal:
        """The segments committed so far."""
        assert self._journal is not None
        return self._journal

    def open(self, decoder: socket.socket) -> DecodedAudio:
        """The recording as a stream, from where the last attempt stopped."""
        run = self._run
        self._journal = Journal(Path(run.spool), run.attempt, resume=run.resume)
        self._audio = DecodedAudio(
            decoder,
            path=os.path.join(run.spool, "audio"),
            name=run.name,
            start_s=self._journal.start_s,
            limits=run.limits,
            on_progress=self.progress,
            on_report=self._gossip.engine,
        )
        if (self._audio.duration_s or 0.0) >= LONG_S:
            self.progress(
                self._audio.start_s
            )  # should it be killed, its length says whether to retry
        return self._audio

    def listen(self, segments: Iterator[Segment]) -> None:
        """Commit each segment as it comes. Raises TypeError where one is none."""
        session = len(self.journal.sessions) + 1
        for segment in segments:
            leaving.insist()
            said = checked(segment)
            if session > 1 and said.speaker is not None:
                # labels of a later session never pass for those of an earlier one
                said = msgspec.structs.replace(said, speaker=f"{session}/{said.speaker}")
            self._commit(said)
            # each is told: that something was committed decides what a crash counts for
            if self._audio is not None:
                self.progress(self._audio.position_s)
                self._audio.told()

    def _commit(self, said: Segment) -> None:
        heard_s = self._audio.heard_s if self._audio else None
        try:
            self.journal.commit(said, heard_s)
        except UnicodeEncodeError:  # half a character: see layouts
            self.journal.commit(layouts.as_text(said), heard_s)

    def progress(self, position_s: float, *, writing: bool = False) -> None:
        """Tell how far the recording was read, or that only the outputs are left to write."""
        run, journal = self._run, self.journal
        self._gossip.send(
            Progress(
                generation=self._gossip.generation,
                job=run.job,
                attempt=run.attempt,
                token=run.token,
                position_s=position_s,
                committed_s=journal.said[-1].end_s if journal.said else journal.start_s,
                segments=len(journal.said),
                duration_s=self._audio.duration_s if self._audio else None,
                start_s=journal.start_s,
                writing=writing,
            )
        )

    def write(self, engine: Engine, languages: tuple[str, ...]) -> Done:
        """Write every output into the staging folder."""
        run, audio = self._run, self._audio
        assert audio is not None
        self.progress(audio.position_s, writing=True)
        written = write_outputs(
            run, engine, self.journal, duration_s=audio.total_s, languages=languages
        )
        return Done(
            generation=self._gossip.generation,
            job=run.job,
            attempt=run.attempt,
            token=run.token,
            duration_s=written.duration_s,
            segments=len(self.journal.said),
            sha256=written.sha256,
            clamped=written.clamped,
            damage=audio.damage,
            outputs=written.outputs,
            rss_before=0,
            rss_after=0,
        )

    def failed(self, error: BaseException) -> Failed:
        """The report of an attempt that ended with `error`."""
        run = self._run
        kind, code = classify(error)
        return Failed(
            generation=self._gossip.generation,
            job=run.job,
            attempt=run.attempt,
            token=run.token,
            kind=kind,
            code=code,
            message=message_of(error),
            retry_after_s=_pause_of(error),
            segments=len(self._journal.said) if self._journal else 0,
            duration_s=self._audio.duration_s if self._audio else None,
            leaving=isinstance(error, DecoderDiedError),
        )

    def close(self) -> None:
        """Let go of the journal."""
        if self._journal is not None:
            self._journal.close()
