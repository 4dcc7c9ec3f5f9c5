"""Speeds, rates and time left, from one look at the jobs to the next."""

from __future__ import annotations

import pytest

from sttd.core.jobs import Job
from sttd.core.workers import Run
from sttd.ctl.pace import Pace, waiting_line
from sttd.wire.views import JobSource, JobStateName, JobView


def job(name: str, progress_s: float, state: JobStateName = "running") -> JobView:
    return JobView(
        job=name,
        source=JobSource(kind="inbox", name=f"{name}.wav"),
        state=state,
        priority=0,
        attempts=1,
        created="2026-01-31T12:00:00.000Z",
        duration_s=60.0,
        progress_s=progress_s,
    )


def test_speed_and_time_left_come_from_how_far_a_job_got() -> None:
    pace = Pace()
    pace.look(0.0, [job("a", 10.0)], 0)
    assert pace.speed("a") is None
    pace.look(5.0, [job("a", 20.0)], 0)
    assert pace.speed("a") == 2.0
    assert pace.left_s(job("a", 20.0)) == 20.0


def test_a_job_that_is_gone_counts_whole_in_the_audio_rate() -> None:
    pace = Pace()
    pace.look(0.0, [job("a", 0.0)], 0)
    pace.look(10.0, [job("a", 30.0)], 0)
    pace.look(20.0, [], 1)
    assert pace.audio_per_minute() == pytest.approx(3.0)
    assert pace.jobs_per_minute() == pytest.approx(3.0)


def test_a_job_tried_again_from_the_start_has_no_negative_speed() -> None:
    pace = Pace()
    pace.look(0.0, [job("a", 30.0)], 0)
    pace.look(1.0, [job("a", 2.0)], 0)
    assert pace.speed("a") is None
    pace.look(2.0, [job("a", 5.0)], 0)
    assert pace.speed("a") == 3.0


def test_who_waits_for_several_jobs_hears_when_the_last_is_done() -> None:
    pace = Pace()
    waiting_line(pace, 0.0, [job("a", 0.0), job("b", 0.0, "queued")])
    speed, left = waiting_line(pace, 10.0, [job("a", 20.0), job("b", 0.0, "queued")])
    assert (speed, left) == (2.0, 50.0)


def _job(segments: int) -> Job:
    fields = dict.fromkeys(Job.__struct_fields__)
    known = {"id": "j", "name": "a.wav", "attempt": 1, "token": "t", "segments": segments}
    return Job(**{**fields, **known})  # type: ignore[arg-type]  # the rest is not looked at


def test_a_resumed_run_is_as_fast_as_it_went_since_it_was_resumed() -> None:
    run = Run(_job(3), started=0.0, progressed=0.0, duration_s=100.0)
    assert run.speed(1.0) is None
    run.began_s, run.began, run.position_s = 40.0, 2.0, 60.0
    assert run.speed(12.0) == 2.0
    assert run.left_s(12.0) == 20.0
