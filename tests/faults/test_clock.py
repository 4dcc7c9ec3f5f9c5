"""The wall clock jumps by a day under the real daemon, and time passes in which it does not run.

Nothing is claimed early, retried in a storm, kept waiting, or blamed for time it did not have.
Scheduling goes by CLOCK_BOOTTIME alone.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import faults
from tests.support.faults import machine
from tests.support.waiting import eventually
from tests.support.wav import tone

DAY_S = 86_400


def pass_time(seconds: float) -> None:
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end)


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_jump_of_the_wall_clock_hurries_nothing_and_holds_nothing_up(
    tmp_path: Path, jump_s: int
) -> None:
    wav = tone(tmp_path / "talk.wav", 0.3)
    clock = tmp_path / "clock"
    sections: dict[str, Any] = {"inbox": {"settle": "1500ms"}, "retry": {"backoff": "3s"}}
    with machine(**sections) as m:
        sttd = m.sttd
        sttd.start(env=m.environment(clock=str(clock)))
        marker = str(tmp_path / "once")
        options = {"raise": "transient", "once_marker": marker}
        begun_at = boottime()
        sttd.drop("deferred.wav", wav, {"options": options})
        delay = sttd.until("job.deferred", source="deferred.wav")["delay_s"]
        clock.write_text(str(jump_s))
        dropped_at = boottime()
        sttd.drop("fresh.wav", wav)
        sttd.until("job.accepted", source="fresh.wav")
        # a lower bound by the clock that does not jump: settled means left alone for so long
        assert boottime() - dropped_at >= 1.5, "claimed before it had settled"
        assert sttd.transcript("fresh")["attempts"] == 1
        sttd.until("job.started", 2, source="deferred.wav")
        # settled, and deferred for so long; delays are told in milliseconds
        assert boottime() - begun_at >= 1.5 + delay - 0.001, "retried before it was due"
        assert sttd.transcript("deferred")["attempts"] == 2
        clock.write_text("0")  # and back again
        sttd.drop("last.wav", wav)
        assert sttd.transcript("last")["attempts"] == 1
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.events("worker.killed") == []
        assert len(sttd.events("job.started")) == 4
        assert sttd.stop() == 0


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_restart_under_another_date_keeps_what_was_deferred(tmp_path: Path, jump_s: int) -> None:
    """As after a restart without a clock battery."""
    wav = tone(tmp_path / "talk.wav", 0.3)
    clock = tmp_path / "clock"
    with machine(retry={"backoff": "2s"}) as m:
        sttd = m.sttd
        sttd.start()
        options = {"raise": "transient", "once_marker": str(tmp_path / "once")}
        sttd.drop("deferred.wav", wav, {"options": options})
        sttd.until("job.deferred", source="deferred.wav")
        sttd.kill()
        clock.write_text(str(jump_s))
        sttd.start(env=m.environment(clock=str(clock)))
        sttd.drop("fresh.wav", wav)
        assert sttd.transcript("fresh")["attempts"] == 1
        assert sttd.transcript("deferred")["attempts"] == 2
        assert sttd.events("job.failed") == []
        assert sttd.stop() == 0
        assert all(row["state"] == "succeeded" for row in faults.rows(m))


HOUR_S = 3600


def test_a_suspended_machine_loses_no_lease_and_wakes_what_came_due(tmp_path: Path) -> None:
    """Two hours asleep, as the clocks tell it: a job runs, another is deferred for an hour."""
    wav = tone(tmp_path / "talk.wav", 0.3)
    slept = tmp_path / "slept"
    sections: dict[str, Any] = {
        "pool": {"workers": 2},
        "retry": {"backoff": "1h"},
        "recycle": {"stall_timeout": "60s", "job_timeout": "10min"},
        "retention": {"done": "1d", "failed": "1d", "rows": "1d"},
    }
    with machine(**sections) as m:
        sttd = m.sttd
        sttd.start(env=m.environment(slept=str(slept)))
        options = {"raise": "transient", "once_marker": str(tmp_path / "once")}
        sttd.drop("deferred.wav", wav, {"options": options})
        assert sttd.until("job.deferred", source="deferred.wav")["delay_s"] > HOUR_S / 4
        sttd.drop("runs.wav", wav, {"options": {"sleep_s": 2}})
        sttd.until("job.started", source="runs.wav")
        slept.write_text(str(2 * HOUR_S))
        assert sttd.transcript("runs")["attempts"] == 1
        assert sttd.transcript("deferred")["attempts"] == 2
        sttd.drop("fresh.wav", wav)
        assert sttd.transcript("fresh")["attempts"] == 1
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.events("worker.killed", "job.failed") == []
        assert len(sttd.events("job.started")) == 4
        assert sttd.stop() == 0


def test_a_daemon_that_was_frozen_with_all_its_workers_kills_none_of_them(tmp_path: Path) -> None:
    """Like a paused machine or a frozen control group: all clocks go on, unlike in a suspend."""
    wav = tone(tmp_path / "talk.wav", 0.3)
    stall_s = 3.0
    sections: dict[str, Any] = {
        "pool": {"workers": 2},
        "recycle": {"stall_timeout": f"{stall_s}s", "job_timeout": "30s"},
    }
    with machine(**sections) as m:
        sttd = m.sttd
        sttd.start()
        for n in range(2):
            sttd.drop(f"{n}.wav", wav, {"options": {"segments": 8, "sleep_s": 4}})
        sttd.until("job.started", 2)
        whole = psutil.Process(sttd.pid)
        tree = [whole, *whole.children(recursive=True)]
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):  # was there to fork another, and ended
                process.suspend()
        pass_time(2 * stall_s)
        whole.resume()
        pass_time(0.7)  # it has a moment to judge the others by
        for process in tree[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        transcripts = [sttd.transcript(str(n)) for n in range(2)]
        assert sttd.events("worker.killed", "job.requeued", "job.deferred", "job.failed") == []
        assert [transcript["attempts"] for transcript in transcripts] == [1, 1]
        assert sttd.stop() == 0
