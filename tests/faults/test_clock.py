"""The wall clock jumps by a day under the real daemon: nothing is claimed early, retried in a
storm, or kept waiting. Scheduling goes by CLOCK_BOOTTIME alone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import faults
from tests.support.faults import machine
from tests.support.waiting import eventually
from tests.support.wav import tone

DAY_S = 86_400


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
        sttd.drop("deferred.wav", wav, {"options": options})
        delay = sttd.until("job.deferred", source="deferred.wav")["delay_s"]
        deferred_at = boottime()
        clock.write_text(str(jump_s))
        dropped_at = boottime()
        sttd.drop("fresh.wav", wav)
        sttd.until("job.accepted", source="fresh.wav")
        # a lower bound by the clock that does not jump: settled means left alone for so long
        assert boottime() - dropped_at >= 1.5, "claimed before it had settled"
        assert sttd.transcript("fresh")["attempts"] == 1
        sttd.until("job.started", 2, source="deferred.wav")
        assert boottime() - deferred_at >= delay - 0.5, "retried before it was due"
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
