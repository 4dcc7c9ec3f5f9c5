"""The engine `drill`: says a fixed text and misbehaves on request, to rehearse what sttd does.

For operators ("what happens when a worker leaks past its ceiling?") and for the tests; never for
real recordings: whoever may submit a job may crash its worker. `settings` has every key,
`misdeeds` what they do to the process; this module is the course of a job.
"""

from __future__ import annotations

import importlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Literal

from sttd import __version__
from sttd.engines import (
    BYTES_PER_SECOND,
    Audio,
    AuthenticationError,
    EngineError,
    EngineUnavailableError,
    InvalidAudioError,
    Segment,
    ThrottledError,
    TranscribeOptions,
    TransientEngineError,
    Word,
)
from sttd.engines.drill import misdeeds
from sttd.engines.drill.settings import (
    JobSettings,
    SettingsError,
    for_engine,
    for_job,
    harmless,
)

__all__ = ["Drill"]

ROUNDING_S = 0.001  # segments' times were rounded before a resumed job starts from one


class Drill:
    """Speaks a fixed text; leaks, hangs, crashes or raises when told to.

    The keys are described in `settings.JobSettings` and `settings.EngineSettings`. Raises
    SettingsError (a ValueError) for a bad `[engine.options]`; a job's bad options raise
    InvalidAudioError.
    """

    name = "drill"
    version = __version__
    start: ClassVar[Literal["fork", "spawn"]] = "fork"

    def __init__(self, options: Mapping[str, object]) -> None:
        self._settings = for_engine(options)
        _import(self._settings.imports)
        time.sleep(self._settings.slow_init_s)
        if self._settings.unreadable_at_init:
            raise SettingsError(
                "[engine.options] unreadable_at_init = true: the model cannot be read (a drill)"
            )

    def begin_worker(self) -> None:
        """Be slow, or die, before the worker is ready."""
        time.sleep(self._settings.slow_start_s)
        if self._settings.crash_at_begin and _first_time(self._settings):
            misdeeds.segfault()

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        """Yield `segments` segments and do what the settings say on the way."""
        try:
            settings = for_job(self._settings, options.extra)
        except SettingsError as error:
            raise InvalidAudioError(f"{audio.name}: {error}") from error
        if not _first_time(settings):
            settings = harmless(settings)
        handler = signal.getsignal(signal.SIGTERM)
        if settings.ignore_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            yield from _Exercise(settings, audio).run()
        finally:
            time.sleep(settings.slow_cleanup_s)
            if settings.ignore_sigterm:
                signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)


class _Exercise:
    """One job: equal steps, at the end of each a segment."""

    def __init__(self, settings: JobSettings, audio: Audio) -> None:
        self._settings = settings
        self._audio = audio
        self._reader = _Reader(audio)
        self._ticks: list[Callable[[], None]] = []

    def run(self) -> Iterator[Segment]:
        settings = self._settings
        trace = misdeeds.Trace(settings.trace) if settings.trace else None
        if trace:
            trace.tick()
            self._ticks.append(trace.tick)
        try:
            self._misbehave_at_once()
            self._strike(0)
            yield from self._steps()
        finally:
            if trace:
                trace.close()

    def _steps(self) -> Iterator[Segment]:
        settings = self._settings
        segments = settings.segments if settings.text.split() else 0
        steps = max(segments, 1)
        total_s = self._total_s(steps)
        said = 0
        for step in range(steps):
            start_s, end_s = total_s * step / steps, total_s * (step + 1) / steps
            if segments and start_s < self._audio.start_s - ROUNDING_S:
                continue  # said by an earlier attempt
            self._wait(self._time_s() / steps)
            misdeeds.burn(settings.cpu_ms / 1000 / steps)
            start_s, end_s = max(_ms(start_s), self._audio.start_s), _ms(self._read(end_s))
            if segments and start_s < end_s:
                yield _segment(settings, step, start_s, end_s)
                said += 1
                self._strike(said)
        self._read(math.inf)

    def _total_s(self, steps: int) -> float:
        if self._audio.duration_s is not None:
            return self._audio.duration_s
        if not self._settings.read_audio:
            return self._audio.start_s + steps
        return self._read(math.inf)  # nobody knows before the end

    def _read(self, end_s: float) -> float:
        """Read up to there; returns where the recording ends, if that is earlier."""
        if not self._settings.read_audio:
            return end_s
        return self._reader.read_to(end_s)

    def _time_s(self) -> float:
        settings = self._settings
        if settings.sleep_s or not settings.leak_mb_per_s:
            return settings.sleep_s
        return settings.leak_after_s + settings.leak_until_mb / settings.leak_mb_per_s

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._tick()
            time.sleep(min(left, misdeeds.TICK_S) if self._ticks else left)
        self._tick()  # what came due during the last sleep

    def _tick(self) -> None:
        for tick in self._ticks:
            tick()

    def _misbehave_at_once(self) -> None:
        settings = self._settings
        if settings.leak_mb:
            misdeeds.leak(int(settings.leak_mb * misdeeds.MB))
        if settings.spike_mb:
            misdeeds.spike(int(settings.spike_mb * misdeeds.MB), settings.spike_s)
        if settings.fragment:
            misdeeds.fragment(int(settings.fragment * misdeeds.MB))
        misdeeds.start_threads(settings.threads)
        misdeeds.open_descriptors(settings.fds)
        if settings.leak_mb_per_s:
            leak = misdeeds.SteadyLeak(
                settings.leak_mb_per_s * misdeeds.MB,
                settings.leak_until_mb * misdeeds.MB,
                settings.leak_after_s,
            )
            self._ticks.insert(0, leak.tick)

    def _strike(self, said: int) -> None:
        """Fail, if now is the time for it: after `said` segments."""
        settings = self._settings
        if said == settings.segfault_after_segments:
            misdeeds.segfault()
        if said == settings.hang_after_segments:
            misdeeds.hang()
        if said != settings.after_segments:
            return
        if settings.failure:
            self._raise(settings.failure)
        if settings.segfault:
            misdeeds.segfault()
        if settings.abort:
            misdeeds.abort()
        if settings.exit_code is not None:
            os._exit(settings.exit_code)
        if settings.hang_in_native:
            misdeeds.hang_in_native()
        if settings.hang:
            misdeeds.hang()

    def _raise(self, failure: str) -> None:
        settings = self._settings
        if failure == "bug":
            raise RuntimeError(settings.message)
        error: EngineError
        if failure == "throttled":
            error = ThrottledError(settings.message, settings.retry_after_s)
        else:
            error = _FAILURES[failure](settings.message)
        if failure in _OF_THE_SERVICE:  # known at once, however long the clean-up takes
            self._audio.report(error)
        raise error


_FAILURES: dict[str, type[EngineError]] = {
    "transient": TransientEngineError,
    "unavailable": EngineUnavailableError,
    "unauthorized": AuthenticationError,
    "invalid": InvalidAudioError,
}
_OF_THE_SERVICE = frozenset({"throttled", "unavailable", "unauthorized"})


class _Reader:
    """Reads a recording as far as it is told."""

    def __init__(self, audio: Audio) -> None:
        self._audio = audio
        self._chunks: Iterator[bytes] | None = None
        self._position_s = audio.start_s
        self._ended = False

    def read_to(self, end_s: float) -> float:
        """Read until `end_s` or the end; `end_s`, or where the recording ended before."""
        if self._chunks is None:
            self._chunks = iter(self._audio)
        while not self._ended and self._position_s < end_s:
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            self._position_s += len(chunk) / BYTES_PER_SECOND
        return min(end_s, self._position_s)


def _segment(settings: JobSettings, step: int, start_s: float, end_s: float) -> Segment:
    all_words = settings.text.split()
    share = len(all_words) / settings.segments
    texts = all_words[round(step * share) : round((step + 1) * share)]
    texts = texts or [all_words[step % len(all_words)]]
    length = (end_s - start_s) / len(texts)
    words = [
        Word(
            start_s=max(_ms(start_s + i * length), start_s),
            end_s=max(_ms(start_s + (i + 1) * length), start_s),
            text=text,
        )
        for i, text in enumerate(texts)
    ]
    return Segment(
        start_s=start_s,
        end_s=end_s,
        text=" ".join(texts),
        confidence=1.0,
        words=tuple(words) if settings.speak_words else (),
    )


def _ms(seconds: float) -> float:
    """Whole milliseconds, never beyond the recording's end."""
    return math.floor(seconds * 1000 + 1e-6) / 1000


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            message = f"[engine.options] imports: {name!r} cannot be imported: {error}"
            raise SettingsError(message) from error


def _first_time(settings: JobSettings) -> bool:
    """Whether to misbehave: always, or where the marker could be created."""
    if settings.once_marker is None:
        return True
    try:
        fd = os.open(
            settings.once_marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
        )
    except FileExistsError:
        return False
    os.close(fd)
    return True
