"""After each of many jobs in one worker: live SDK objects, threads, descriptors, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.test_azure_faults import FAULTS, SILENT
from tests.speech_service.behaviour import Behaviour
from tests.speech_service.running import Running, running_service

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SETTLED = 10  # jobs until lazily made things are made


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running_service() as running:
        yield running


def life(
    service: Running, behaviour: Behaviour, jobs: int, seconds: float, stall_s: float
) -> list[dict[str, Any]]:
    """What a worker holds after each of its jobs."""
    service.service.plan = [behaviour]
    wishes = (service.host, str(jobs), str(seconds), "-", str(stall_s))
    worker = subprocess.run(
        [sys.executable, "benchmarks/azure_worker.py", *wishes],
        cwd=ROOT,
        # arenas as pool.malloc_arena_max has them in workers
        env=os.environ | {"PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        check=False,
    )
    assert worker.returncode == 0, worker.stderr
    lines = [json.loads(line) for line in worker.stdout.splitlines()]
    assert len(lines) == jobs
    return lines


def test_two_hundred_jobs_leave_nothing_behind(service: Running) -> None:
    lines = life(service, Behaviour(), 200, 1.0, stall_s=30.0)

    assert {line["outcome"] for line in lines} == {"done"}
    first = lines[0]
    for line in lines:
        for kind in ("objects", "natives", "threads", "fds"):
            assert line[kind] == first[kind], (kind, line, first)
    assert lines[-1]["rss"] - lines[SETTLED - 1]["rss"] <= 1.5 * MIB


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_leaves_anything_behind(service: Running, fault: str) -> None:
    lines = fail(service, fault, 4)

    assert lines[-1]["rss"] - lines[0]["rss"] <= 4 * MIB


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", FAULTS)
def test_two_hundred_failures_of_a_kind_leave_nothing_behind(service: Running, fault: str) -> None:
    lines = fail(service, fault, 200)

    assert lines[-1]["rss"] - lines[SETTLED - 1]["rss"] <= 1.5 * MIB


def fail(service: Running, fault: str, jobs: int) -> list[dict[str, Any]]:
    """Jobs that all end by this fault; after each of them all is as after the first."""
    behaviour, expected = FAULTS[fault]
    # short where the fault is silence; else a busy machine must not be taken for it
    lines = life(service, behaviour, jobs, 3.0, stall_s=0.3 if fault in SILENT else 10.0)
    assert {line["outcome"] for line in lines} == {expected.__name__}
    first = lines[0]
    for line in lines:
        for kind in ("objects", "natives", "threads", "fds"):
            assert line[kind] == first[kind], (kind, line, first)
    return lines
