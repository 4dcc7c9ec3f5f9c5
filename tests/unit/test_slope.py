"""What sttctl says of the slope."""

from __future__ import annotations

from sttd.core.growth import ENOUGH, Growth
from sttd.ctl import heap
from sttd.wire.memory import SLOPE_FROM, SlopeView


def told(jobs: int) -> str:
    growth = Growth()
    for _ in range(jobs):
        growth.add(60.0, 3 << 20)
    per_job, per_minute = growth.line()
    return heap.slope(
        SlopeView(
            jobs=len(growth),
            per_job_bytes=per_job,
            per_audio_minute_bytes=per_minute,
            next_job_bytes=growth.expected(None),
        )
    )


def test_no_slope_is_told_before_there_are_jobs_enough_to_draw_one() -> None:
    assert SLOPE_FROM == ENOUGH
    for jobs in range(SLOPE_FROM):
        assert told(jobs) == f"not known before 5 jobs are done; {jobs} so far"
    assert told(SLOPE_FROM).startswith("+3.0 MiB a job")
