"""What the meters make of events, and that nothing of it grows with their number."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from sttd.core.commands import Bury
from sttd.events import EVENTS
from sttd.supervisor.meters import MOST_GOING, Meters


class Bench:
    """Meters with a clock of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.now = 100.0
        self.meters = Meters(self.registry, lambda: self.now)

    def tell(self, name: str, **fields: Any) -> None:
        assert name in EVENTS
        assert fields.keys() <= EVENTS[name].fields
        self.meters.heard(name, fields)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def starts(self, job: str = "j1", worker: str = "w-1") -> None:
        self.tell("job.started", job=job, source="a.wav", attempt=1, worker=worker)

    def is_at(self, position_s: float, job: str = "j1", worker: str = "w-1") -> None:
        self.tell("job.progress", job=job, worker=worker, position_s=position_s)

    def succeeds(self, duration_s: float | None, job: str = "j1", worker: str = "w-1") -> None:
        self.tell("job.succeeded", job=job, worker=worker, duration_s=duration_s)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_event_of_the_catalogue_is_counted_from_zero_on(bench: Bench) -> None:
    assert {bench.value("sttd_events_total", event=name) for name in EVENTS} == {0.0}
    bench.tell("daemon.ready")
    assert bench.value("sttd_events_total", event="daemon.ready") == 1.0


def test_audio_is_counted_as_it_is_handed_over_and_whole_in_the_end(bench: Bench) -> None:
    bench.starts()
    bench.is_at(4.0)
    bench.is_at(9.5)
    assert bench.value("sttd_audio_processed_seconds_total") == 9.5
    assert bench.value("sttd_audio_transcribed_seconds_total") == 0.0
    bench.now += 5.0
    bench.succeeds(20.0)
    assert bench.value("sttd_audio_processed_seconds_total") == 20.0
    assert bench.value("sttd_audio_transcribed_seconds_total") == 20.0
    assert bench.value("sttd_job_realtime_factor_sum") == 0.25
    assert bench.value("sttd_job_run_seconds_sum") == 5.0


def test_what_a_resumed_attempt_skips_is_not_counted_again(bench: Bench) -> None:
    bench.starts()
    bench.is_at(60.0)
    bench.tell("job.requeued", job="j1", worker="w-1", code="crashed")
    bench.starts(worker="w-2")
    bench.tell("job.resumed", job="j1", worker="w-2", segments=7)
    bench.is_at(50.0, worker="w-2")
    bench.now += 10.0
    bench.succeeds(100.0, worker="w-2")
    assert bench.value("sttd_audio_processed_seconds_total") == 60.0 + 50.0
    assert bench.value("sttd_audio_transcribed_seconds_total") == 100.0
    assert bench.value("sttd_job_realtime_factor_sum") == 10.0 / 50.0
    assert bench.value("sttd_attempts_repeated_total", code="crashed") == 1.0


def test_a_worker_may_have_its_next_job_before_the_last_is_published(bench: Bench) -> None:
    bench.starts("j1")
    bench.now += 2.0
    bench.starts("j2")
    bench.now += 1.0
    bench.succeeds(30.0, "j1")
    assert bench.value("sttd_job_run_seconds_sum") == 3.0
    bench.succeeds(10.0, "j2")
    assert bench.value("sttd_audio_processed_seconds_total") == 40.0


def test_a_recording_of_unknown_or_no_duration_spoils_no_figure(bench: Bench) -> None:
    for duration in (None, 0.0):
        bench.starts()
        bench.succeeds(duration)
    assert bench.value("sttd_jobs_finished_total", state="succeeded") == 2.0
    assert bench.value("sttd_job_realtime_factor_count") == 0.0
    assert b"NaN" not in generate_latest(bench.registry)


def test_kills_and_leaves_are_timed_apart(bench: Bench) -> None:
    bench.tell("worker.retiring", worker="w-1", reason="max_requests")
    bench.tell("worker.killed", worker="w-2", reason="rss_ceiling")
    bench.now += 0.004
    bench.tell("worker.exited", worker="w-2", reason="rss_ceiling")
    bench.now += 1.0
    bench.tell("worker.exited", worker="w-1", reason="max_requests")
    bench.tell("worker.exited", worker="w-3", reason="crashed")
    assert bench.value("sttd_worker_kill_latency_seconds_bucket", le="0.005") == 1.0
    assert bench.value("sttd_worker_kill_latency_seconds_count") == 1.0
    assert bench.value("sttd_worker_leave_seconds_count") == 1.0
    assert bench.value("sttd_worker_leave_seconds_sum") == pytest.approx(1.004)


@pytest.mark.parametrize(("latency", "count"), [(0.02, 1.0), (None, 0.0)])
def test_a_replacement_is_timed_where_there_was_one(
    bench: Bench, latency: float | None, count: float
) -> None:
    life = Bury(
        worker="w-1",
        pid=1,
        cause="max_requests",
        decider="policy",
        rss_bytes=1,
        peak_rss_bytes=1,
        jobs=1,
        leak_per_job=None,
        age_s=1.0,
        kill_latency_s=None,
        replacement_latency_s=latency,
    )
    bench.meters.buried(life)
    assert bench.value("sttd_worker_replacement_latency_seconds_count") == count


def test_a_code_that_is_not_ours_gets_no_series_of_its_own(bench: Bench) -> None:
    bench.tell("job.failed", job="j1", code="plug-in says 0x1F")
    bench.tell("job.failed", job="j2", code="undecodable")
    assert bench.value("sttd_jobs_failed_total", code="other") == 1.0
    assert bench.value("sttd_jobs_failed_total", code="undecodable") == 1.0


def test_three_thousand_jobs_take_no_more_room_than_ten(bench: Bench) -> None:
    def work(first: int, last: int) -> int:
        for number in range(first, last):
            job, worker = f"job-{number}", f"w-{number}"
            bench.tell("job.accepted", job=job, source=job, kind="inbox", bytes=10)
            bench.tell("worker.ready", worker=worker, ready_s=0.01)
            bench.starts(job, worker)
            if number % 3:
                bench.succeeds(1.0, job, worker)
            elif number % 2:
                bench.tell("job.failed", job=job, worker=worker, code="failed")
            else:
                bench.tell("job.cancelled", job=job)
            bench.tell("worker.killed", worker=worker, reason="stalled")
            bench.tell("worker.exited", worker=worker, reason="stalled")
        return len(generate_latest(bench.registry).splitlines())

    assert work(0, 10) == work(10, 3_000)
    held = (bench.meters._going, bench.meters._told, bench.meters._killed)
    assert not any(held)


def test_runs_whose_end_is_never_told_are_forgotten(bench: Bench) -> None:
    for number in range(MOST_GOING + 50):
        bench.starts(f"job-{number}")
    assert len(bench.meters._going) == MOST_GOING


FIELDS = st.fixed_dictionaries(
    {
        "job": st.sampled_from(["j1", "j2", "j3"]),
        "worker": st.sampled_from(["w-1", "w-2", None]),
    },
    optional={
        "position_s": st.floats(0, 1e6) | st.none(),
        "duration_s": st.floats(0, 1e6) | st.none(),
        "code": st.sampled_from(["crashed", "no code"]) | st.none(),
        "kind": st.sampled_from(["inbox", "elsewhere"]),
        "bytes": st.integers(0, 1 << 40) | st.none(),
        "ready_s": st.floats(0, 10),
        "reason": st.sampled_from(["stalled", "crashed"]),
    },
)


@given(st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), FIELDS)))
def test_no_order_of_events_breaks_them_or_counts_backwards(
    told: list[tuple[str, dict[str, Any]]],
) -> None:
    bench = Bench()
    before = 0.0
    for name, fields in told:
        bench.now += 0.5
        bench.meters.heard(name, fields)
        after = bench.value("sttd_audio_processed_seconds_total")
        assert after is not None
        assert after >= before
        before = after
    assert b"NaN" not in generate_latest(bench.registry)
