"""The drill's misdeeds are real: seen from outside, in forked children."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.engines import (
    AuthenticationError,
    EngineError,
    EngineUnavailableError,
    InvalidAudioError,
    Segment,
    ThrottledError,
    TranscribeOptions,
    TransientEngineError,
)
from sttd.engines.drill import Drill
from sttd.engines.drill.settings import EngineSettings, JobSettings, SettingsError
from tests.support.audio import REPOSITORY, PcmAudio, silence
from tests.support.children import Child, Ending, forked, in_child, rss_bytes
from tests.support.growth import MB, growth

Tell = Callable[[Any], None]


def options(**extra: object) -> TranscribeOptions:
    return TranscribeOptions(extra=extra)


def run(*, seconds: float = 4.0, start_s: float = 0.0, **extra: object) -> list[Segment]:
    audio = PcmAudio(silence(seconds), start_s=start_s)
    return list(Drill({}).transcribe(audio, options(**extra)))


def texts(segments: list[Segment]) -> list[str]:
    return [segment.text for segment in segments]


def job(**extra: object) -> Callable[[Tell], None]:
    """A child that does one job and tells the text of every segment, then "done"."""

    def work(tell: Tell) -> None:
        for segment in Drill({}).transcribe(PcmAudio(silence(4)), options(**extra)):
            tell(segment.text)
        tell("done")

    return work


# -- speaking ----------------------------------------------------------------------------------
def test_the_text_is_spread_over_the_recording() -> None:
    segments = run(seconds=4, text="one two three four", segments=2)
    assert [(s.start_s, s.end_s, s.text) for s in segments] == [
        (0, 2, "one two"),
        (2, 4, "three four"),
    ]


def test_words_get_their_times_on_request() -> None:
    (segment,) = run(seconds=4, text="one two", segments=1, speak_words=True)
    assert [(w.start_s, w.end_s, w.text) for w in segment.words] == [(0, 2, "one"), (2, 4, "two")]


def test_words_repeat_where_there_are_more_segments_than_words() -> None:
    assert set(texts(run(text="one two", segments=5))) == {"one", "two"}


@pytest.mark.parametrize("silent", [{"text": ""}, {"text": "  "}, {"segments": 0}])
def test_without_text_or_segments_nothing_is_said(silent: dict[str, object]) -> None:
    assert run(**silent) == []  # type: ignore[arg-type]  # keys of the drill


@given(
    seconds=st.floats(0, 10), segments=st.integers(0, 40), share=st.floats(0, 1), words=st.text()
)
def test_segments_always_lie_in_order_inside_the_recording(
    seconds: float, segments: int, share: float, words: str
) -> None:
    audio = PcmAudio(silence(seconds), start_s=share * seconds)
    before = audio.start_s
    for segment in Drill({}).transcribe(audio, options(text=words, segments=segments)):
        assert before <= segment.start_s <= segment.end_s <= (audio.duration_s or 0)
        before = segment.end_s


def test_the_recording_is_read_in_step_with_the_segments() -> None:
    audio = PcmAudio(silence(10), chunk=3200)
    said = Drill({}).transcribe(audio, options(segments=5))
    positions = [round(audio.position_s) for _ in said]
    assert positions == [2, 4, 6, 8, 10]


def test_the_recording_is_left_unread_on_request() -> None:
    audio = PcmAudio(silence(10))
    assert len(list(Drill({}).transcribe(audio, options(read_audio=False)))) == 2
    assert audio.position_s == 0


def test_a_recording_shorter_than_its_header_says_gets_no_segment_beyond_its_end() -> None:
    audio = PcmAudio(silence(3))
    audio.duration_s = 10.0
    segments = list(Drill({}).transcribe(audio, options(segments=5)))
    assert [(s.start_s, s.end_s) for s in segments] == [(0, 2), (2, 3)]


# -- settings ----------------------------------------------------------------------------------
def test_a_job_goes_over_the_configuration() -> None:
    drill = Drill({"text": "configured words", "segments": 1})
    assert texts(list(drill.transcribe(PcmAudio(silence(1)), options()))) == ["configured words"]
    own = list(drill.transcribe(PcmAudio(silence(1)), options(text="my own")))
    assert texts(own) == ["my own"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"leek_mb": 1}, 'talk.wav: options: drill knows no key .leek_mb.; did you mean "leak_mb"'),
        ({"qqqq": 1}, "docs/engines.md"),
        ({"sleep_s": "long"}, r"talk.wav: options.sleep_s: Expected `float`, got `str`"),
        ({"segments": -1}, r"options.segments: Expected `int` >= 0"),
        ({"raise": "nothing"}, r"options.raise: Invalid enum value 'nothing'"),
        ({"trace": "relative"}, r"options.trace"),
        ({"slow_start_s": 1}, r"options.slow_start_s is not for a job: put it into"),
    ],
)
def test_a_bad_option_fails_the_job_and_is_named(extra: Mapping[str, object], message: str) -> None:
    audio = PcmAudio(silence(1), name="talk.wav")
    with pytest.raises(InvalidAudioError, match=message):
        list(Drill({}).transcribe(audio, TranscribeOptions(extra=extra)))


def test_a_bad_configuration_is_named() -> None:
    with pytest.raises(SettingsError, match=r'\[engine.options\].*did you mean "crash_at_begin"'):
        Drill({"crash_at_beginn": True})


def test_the_documentation_lists_every_key_with_its_default() -> None:
    page = (REPOSITORY / "docs" / "engines.md").read_text(encoding="utf-8")
    listed = dict(
        re.findall(r"^\| `(\w+)` \| (.+?) \|", page.partition("## drill")[2], re.MULTILINE)
    )
    expected = {
        field.encode_name: "" if field.default is None else f"`{json.dumps(field.default)}`"
        for field in msgspec.structs.fields(EngineSettings)
    }
    expected["text"] = "a fixed sentence"
    assert {key: value.strip() for key, value in listed.items()} == {
        key: value or "not set" for key, value in expected.items()
    }


def test_every_key_is_explained_where_it_is_defined() -> None:
    explained = f"{JobSettings.__doc__}{EngineSettings.__doc__}"
    for field in msgspec.structs.fields(EngineSettings):
        assert f"    {field.encode_name}: " in explained


# -- memory ------------------------------------------------------------------------------------
def test_a_leak_stays_in_rss_after_the_job() -> None:
    during, after, trimmed = growth(leak_mb=64)
    assert 63 <= trimmed <= after <= 67
    assert 63 <= during <= 67


def test_a_steady_leak_ends_at_its_limit() -> None:
    during, after, trimmed = growth(leak_mb_per_s=400, leak_until_mb=60)
    assert 59 <= trimmed <= after <= 64
    assert 25 <= during <= 66


def test_a_steady_leak_ends_with_the_job() -> None:
    _, after, _ = growth(leak_mb_per_s=100, leak_until_mb=4000, sleep_s=0.2)
    assert 19 <= after <= 200


def traced(trace: Path) -> list[tuple[int, int]]:
    """The lines of a trace: nanoseconds, RSS in bytes."""
    lines = [line.split() for line in trace.read_text(encoding="ascii").splitlines()]
    assert len({pid for pid, _, _ in lines}) == 1
    return [(int(at), int(rss)) for _, at, rss in lines]


def test_a_steady_leak_never_runs_ahead_of_its_rate(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    growth(leak_mb_per_s=200, leak_until_mb=80, trace=str(trace))
    lines = traced(trace)
    began, first = lines[0]
    for at, rss in lines:
        assert rss - first <= (at - began) / 1e9 * 200 * MB + 30 * MB
    assert lines[-1][1] - first >= 40 * MB


def test_a_leak_may_begin_later(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    growth(leak_mb_per_s=400, leak_until_mb=40, leak_after_s=1, trace=str(trace))
    lines = traced(trace)
    began, first = lines[0]
    leaking = next(at for at, rss in lines if rss > first + MB)
    assert leaking - began >= 0.5e9  # the trace begins a little after the clock of the leak


def test_a_spike_is_given_back() -> None:
    seen: list[int] = []

    def spike() -> int:
        before = rss_bytes()
        watch = threading.Thread(target=lambda: seen.append(_highest(before)))
        watch.start()
        run(spike_mb=100, spike_s=0.3)
        watch.join()
        assert seen[0] > 90 * MB
        return (rss_bytes() - before) // MB

    assert in_child(spike) <= 10


def _highest(before: int) -> int:
    """Wait until RSS has grown by 90 MB, or for too long."""
    end = time.monotonic() + 30
    while rss_bytes() - before < 90 * MB and time.monotonic() < end:
        os.sched_yield()
    return rss_bytes() - before


def test_fragments_stay_until_the_heap_is_trimmed() -> None:
    _, after, trimmed = growth(fragment=64)
    assert after >= 55
    assert trimmed <= 10


def test_threads_and_descriptors_stay() -> None:
    def count() -> list[int]:
        fds, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        run(threads=3, fds=7)
        return [
            len(os.listdir("/proc/self/fd")) - fds,
            len(os.listdir("/proc/self/task")) - threads,
        ]

    assert in_child(count) == [7, 3]


def test_processor_time_is_really_used() -> None:
    def used() -> float:
        before = time.process_time()
        run(cpu_ms=300)
        return time.process_time() - before

    assert in_child(used) >= 0.29


# -- death -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("extra", "ending"),
    [
        ({"segfault": True}, Ending(None, signal.SIGSEGV)),
        ({"abort": True}, Ending(None, signal.SIGABRT)),
        ({"exit_code": 7}, Ending(7, None)),
        ({"exit_code": 0}, Ending(0, None)),
    ],
)
def test_a_job_can_kill_its_process(extra: Mapping[str, object], ending: Ending) -> None:
    with forked(job(**extra)) as child:
        assert child.ended() == ending


@pytest.mark.parametrize(
    "after", [{"after_segments": 2, "segfault": True}, {"segfault_after_segments": 2}]
)
def test_a_crash_can_wait_for_some_segments(after: Mapping[str, object]) -> None:
    with forked(job(text="one two three", segments=3, **after)) as child:
        assert [child.told(), child.told()] == ["one", "two"]
        assert child.ended() == Ending(None, signal.SIGSEGV)


def test_a_crash_can_happen_just_once(tmp_path: Path) -> None:
    marker = tmp_path / "crashed"
    crash = job(text="one two", segfault=True, leak_mb=1, once_marker=str(marker))
    with forked(crash) as child:
        assert child.ended() == Ending(None, signal.SIGSEGV)
    assert marker.exists()
    with forked(crash) as child:
        assert [child.told(), child.told(), child.told()] == ["one", "two", "done"]


def test_a_worker_can_die_before_it_is_ready(tmp_path: Path) -> None:
    drill = Drill({"crash_at_begin": True, "once_marker": str(tmp_path / "begun")})
    with forked(lambda _: drill.begin_worker()) as child:
        assert child.ended() == Ending(None, signal.SIGSEGV)
    with forked(lambda _: drill.begin_worker()) as child:
        assert child.ended() == Ending(0, None)


def test_a_library_can_be_loaded_for_its_weight() -> None:
    def loaded() -> list[bool]:
        before = "nturl2path" in sys.modules
        Drill({"imports": ["nturl2path"]})
        return [before, "nturl2path" in sys.modules]

    assert in_child(loaded) == [False, True]


def test_a_library_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match=r"imports: 'no_such_library' cannot be imported"):
        Drill({"imports": ["no_such_library"]})


def test_an_engine_can_fail_to_be_built() -> None:
    with pytest.raises(SettingsError, match="unreadable_at_init"):
        Drill({"unreadable_at_init": True})


# -- hanging -----------------------------------------------------------------------------------
def terminate(child: Child) -> None:
    os.kill(child.pid, signal.SIGTERM)


def polite(**extra: object) -> Callable[[Tell], None]:
    """A child that ends with 5 when its handler of SIGTERM may run, as a worker's does."""

    def work(tell: Tell) -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
        tell("ready")
        job(**extra)(tell)

    return work


@pytest.mark.parametrize("after", [{"hang": True, "after_segments": 1}, {"hang_after_segments": 1}])
def test_a_hang_yields_nothing_more_and_answers_a_signal(after: Mapping[str, object]) -> None:
    with forked(polite(text="one two", **after)) as child:
        assert [child.told(), child.told()] == ["ready", "one"]
        terminate(child)
        assert child.ended() == Ending(5, None)


def test_a_hang_in_native_code_answers_no_handler() -> None:
    with forked(polite(hang_in_native=True, after_segments=1)) as child:
        assert child.told() == "ready"
        child.told()
        _wait_until_blocked(child.pid)
        terminate(child)
        _wait_until_delivered(child.pid)
        assert child.lives()
        os.kill(child.pid, signal.SIGKILL)
        assert child.ended() == Ending(None, signal.SIGKILL)


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, what
        os.sched_yield()


def _wait_until_blocked(pid: int) -> None:
    wchan = Path(f"/proc/{pid}/wchan")
    _wait(lambda: "futex" in wchan.read_text(encoding="ascii"), "waits for no lock")


def _wait_until_delivered(pid: int) -> None:
    bit = 1 << (signal.SIGTERM - 1)
    _wait(lambda: not int(_status(pid)["ShdPnd"], 16) & bit, "SIGTERM stays pending")
    _wait_until_blocked(pid)


def test_sigterm_is_ignored_while_the_job_runs_and_no_longer() -> None:
    def work(tell: Tell) -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
        drill = Drill({})
        segments = drill.transcribe(PcmAudio(silence(4)), options(ignore_sigterm=True, segments=2))
        next(segments)
        os.kill(os.getpid(), signal.SIGTERM)
        tell("still here")
        list(segments)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    with forked(work) as child:
        assert child.told() == "still here"
        assert child.ended() == Ending(5, None)


# -- failing -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("transient", TransientEngineError),
        ("throttled", ThrottledError),
        ("unavailable", EngineUnavailableError),
        ("unauthorized", AuthenticationError),
        ("invalid", InvalidAudioError),
        ("bug", RuntimeError),
    ],
)
def test_every_error_can_be_raised(kind: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="on purpose") as caught:
        run(**{"raise": kind, "message": "on purpose"})  # type: ignore[arg-type]  # a drill's keys
    assert type(caught.value) is error
    assert isinstance(caught.value, EngineError) == (kind != "bug")


def test_a_throttled_job_says_when_to_come_back() -> None:
    with pytest.raises(ThrottledError) as caught:
        run(**{"raise": "throttled", "retry_after_s": 7})  # type: ignore[arg-type]  # a drill's keys
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("kind", ["throttled", "unavailable", "unauthorized"])
def test_the_service_s_state_is_reported_before_the_clean_up(kind: str) -> None:
    class Witness(PcmAudio):
        at: float | None = None

        def report(self, error: EngineError) -> None:
            super().report(error)
            self.at = time.monotonic()

    audio = Witness(silence(1))
    extra: dict[str, object] = {"raise": kind, "slow_cleanup_s": 0.2}
    with pytest.raises(EngineError) as caught:
        list(Drill({}).transcribe(audio, TranscribeOptions(extra=extra)))
    assert audio.reports == [caught.value]
    assert audio.at is not None
    assert time.monotonic() - audio.at >= 0.2
