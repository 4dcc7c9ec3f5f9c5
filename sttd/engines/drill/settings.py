"""The keys of the engine `drill`: what a rehearsal may ask for, strictly checked. Pure.

docs/engines.md has the same table for operators; a test compares the two.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

__all__ = ["EngineSettings", "JobSettings", "SettingsError", "for_engine", "for_job"]

Seconds = Annotated[float, Meta(ge=0)]
Megabytes = Annotated[float, Meta(ge=0)]  # of 1,048,576 bytes
Count = Annotated[int, Meta(ge=0)]

Failure = Literal["transient", "throttled", "unavailable", "unauthorized", "invalid", "bug"]

TEXT = "this is a drill the recording was not listened to and nothing in it was understood"


class SettingsError(ValueError):
    """A key or value is wrong; the message names it, and the nearest key there is."""


class JobSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one job does. Given in the sidecar's `options`; defaults come from [engine.options].

    What it says:
        text: spoken in segments spread over the recording.
        segments: how many; with more of them than words, words repeat.
        speak_words: give each word its times.
        read_audio: read the recording, in step with the segments; false reads nothing.

    What it costs:
        sleep_s: how long the job takes, spread evenly.
        cpu_ms: processor time burnt, spread over the segments.
        leak_mb: leaked at the start of the job, for ever.
        leak_mb_per_s: leaked evenly as long as the job runs; where sleep_s is 0 it runs until
            leak_until_mb have gone.
        leak_until_mb: the most that one job leaks by leak_mb_per_s.
        leak_after_s: leak_mb_per_s begins so long after the job's start.
        spike_mb: held for spike_s and given back.
        spike_s: how long.
        fragment: megabytes of small blocks allocated and freed, in a heap that cannot shrink by
            itself; malloc_trim gives them back.
        threads: started, and left waiting for ever.
        fds: descriptors opened, and never closed.

    How it fails. Each of these strikes after `after_segments` segments:
        hang: wait for ever, reading nothing, yielding nothing. A signal still gets through.
        hang_in_native: the same in native code that holds the interpreter's lock: no signal
            handler of Python's runs any more.
        segfault: a real SIGSEGV.
        abort: a real SIGABRT.
        exit_code: end the process at once with this code.
        raise: transient, throttled, unavailable, unauthorized or invalid (the engine errors of
            these names), or bug (any other exception).
        message: what `raise` says.
        retry_after_s: for throttled.
        after_segments: counted in this attempt.
        hang_after_segments: hang after so many, whatever after_segments says.
        segfault_after_segments: likewise.

    How it resists:
        ignore_sigterm: while the job runs.
        slow_cleanup_s: how long the clean-up takes, however the job ends.

    For experiments:
        once_marker: absolute path of a file. Whoever can create it does everything above;
            where it exists already, the job only speaks, sleeps and burns.
        trace: absolute path of a file that gets a line "pid monotonic_ns rss_bytes" when the job
            starts and then every 5 ms.
    """

    text: str = TEXT
    segments: Annotated[int, Meta(ge=0, le=100_000)] = 2
    speak_words: bool = False
    read_audio: bool = True

    sleep_s: Seconds = 0.0
    cpu_ms: Annotated[float, Meta(ge=0)] = 0.0
    leak_mb: Megabytes = 0.0
    leak_mb_per_s: Megabytes = 0.0
    leak_until_mb: Megabytes = 2048.0
    leak_after_s: Seconds = 0.0
    spike_mb: Megabytes = 0.0
    spike_s: Seconds = 0.1
    fragment: Megabytes = 0.0
    threads: Count = 0
    fds: Count = 0

    hang: bool = False
    hang_in_native: bool = False
    segfault: bool = False
    abort: bool = False
    exit_code: Annotated[int, Meta(ge=0, le=255)] | None = None
    failure: Failure | None = msgspec.field(default=None, name="raise")
    message: str = "this is a drill"
    retry_after_s: Seconds | None = None
    after_segments: Count = 0
    hang_after_segments: Count | None = None
    segfault_after_segments: Count | None = None

    ignore_sigterm: bool = False
    slow_cleanup_s: Seconds = 0.0

    once_marker: Annotated[str, Meta(pattern="^/")] | None = None
    trace: Annotated[str, Meta(pattern="^/")] | None = None


_Settings = TypeVar("_Settings", bound=JobSettings)

# What is left of a job's settings where its marker exists already.
HARMLESS = frozenset(
    {"text", "segments", "speak_words", "read_audio", "sleep_s", "cpu_ms", "trace"}
)


class EngineSettings(JobSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[engine.options]`: defaults for every job, and how the engine itself starts.

    imports: modules imported in the template, for the weight of a real library.
    unreadable_at_init: the engine cannot be built.
    slow_init_s: how long building it takes, in the template.
    slow_start_s: how long a worker takes from its fork to being ready.
    crash_at_begin: a worker dies by SIGSEGV before it is ready; once_marker applies.
    """

    imports: tuple[str, ...] = ()
    unreadable_at_init: bool = False
    slow_init_s: Seconds = 0.0
    slow_start_s: Seconds = 0.0
    crash_at_begin: bool = False


def for_engine(options: Mapping[str, object]) -> EngineSettings:
    """`[engine.options]`, checked. Raises SettingsError."""
    _check_keys(options, EngineSettings, "[engine.options]")
    settings = _convert(dict(options), EngineSettings, "[engine.options]")
    for_job(settings, {})  # what is made on first use is made once, in the template
    return settings


def for_job(configured: EngineSettings, options: Mapping[str, object]) -> JobSettings:
    """A job's settings: its own `options` over the configured ones. Raises SettingsError."""
    _check_keys(options, JobSettings, "options")
    defaults = {key: getattr(configured, field) for key, field in _fields(JobSettings).items()}
    return _convert({**defaults, **options}, JobSettings, "options")


def harmless(settings: JobSettings) -> JobSettings:
    """The same job without its misdeeds."""
    return JobSettings(**{key: getattr(settings, key) for key in HARMLESS})


@functools.cache  # milliseconds, which a short job would otherwise consist of
def _fields(model: type[JobSettings]) -> dict[str, str]:
    """The keys as written, with the names of their fields."""
    return {field.encode_name: field.name for field in msgspec.structs.fields(model)}


def _check_keys(options: Mapping[str, object], model: type[JobSettings], where: str) -> None:
    known = _fields(model)
    for key in options:
        if key in known:
            continue
        if key in _fields(EngineSettings):
            raise SettingsError(f"{where}.{key} is not for a job: put it into [engine.options]")
        near = difflib.get_close_matches(str(key), known, 1)
        remedy = f'did you mean "{near[0]}"?' if near else "docs/engines.md lists the keys of drill"
        raise SettingsError(f"{where}: drill knows no key {key!r}; {remedy}")


def _convert(options: dict[str, object], model: type[_Settings], where: str) -> _Settings:
    try:
        return msgspec.convert(options, model)
    except msgspec.ValidationError as error:
        text = str(error)
        found = re.search(r" - at `\$\.(.*?)`$", text)
        if not found:
            raise SettingsError(f"{where}: {text}") from error
        raise SettingsError(f"{where}.{found[1]}: {text[: found.start()]}") from error
