"""What `job.progress` says of speed and time left, in the core."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sttd.core import commands as do
from sttd.core import events as on
from tests.support.world import World


def progress(positions: list[float], start_s: float) -> list[Mapping[str, object]]:
    return [one.fields for one in told(positions, start_s) if one.event == "job.progress"]


def told(positions: list[float], start_s: float) -> list[do.Announce]:
    """What is announced of a run that goes through `positions`, two seconds apart."""
    world = World()
    world.feed(on.Tick())
    world.settle()
    world.submit()
    world.settle()
    (worker,) = world.jobs
    job = world.jobs[worker]
    found: list[do.Announce] = []
    for position_s in positions:
        world.now += 2.0
        news = on.Progressed(
            worker=worker,
            job=job.id,
            attempt=job.attempt,
            token=job.token,
            position_s=position_s,
            segments=0,
            duration_s=4000.0,
            start_s=start_s,
        )
        commands = world.core.handle(news, world.now)
        found += [c for c in commands if isinstance(c, do.Announce)]
    return found


def test_a_run_is_as_fast_as_it_went_since_its_start() -> None:
    first, second = progress([10.0, 20.0], 0.0)
    assert (first["speed"], first["left_s"]) == (5.0, 798.0)
    assert (second["speed"], second["left_s"]) == (5.0, 796.0)


def test_what_an_earlier_life_of_the_daemon_has_heard_makes_no_run_faster() -> None:
    first, second = progress([3600.0, 3610.0], 3595.0)
    assert (first["speed"], first["left_s"]) == (None, None)
    assert second["speed"] == pytest.approx(5.0)
    assert second["left_s"] == pytest.approx(78.0)


def test_a_job_that_goes_on_after_a_crash_of_the_daemon_is_said_to_be_resumed_once() -> None:
    assert [one.event for one in told([3600.0, 3610.0], 3595.0)] == [
        "job.resumed",
        "job.progress",
        "job.progress",
    ]
    assert "job.resumed" not in [one.event for one in told([10.0], 0.0)]
