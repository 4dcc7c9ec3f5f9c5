"""What is handed to the notifier when it cannot keep up."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from sttd.config import Settings
from sttd.config.sections import Notify
from sttd.log import Log
from sttd.supervisor import notifying
from sttd.supervisor.notifying import Notifications
from tests.support.children import is_dead
from tests.support.waiting import eventually, eventually_async


def test_more_than_goes_is_dropped_counted_and_told_once_and_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifying, "LAST_S", 0.2)
    started = tmp_path / "started"
    notify = Notify(exec=("/bin/sh", "-c", f"echo $$ > {started}; sleep 600"), concurrency=1)
    told: list[str] = []

    async def life() -> int:
        log = Log(io.StringIO(), publish=lambda name, _record: told.append(name))
        settings = Settings(state_dir=tmp_path, notify=notify)
        async with Notifications(settings, log) as notifications:
            log.event("job.succeeded", job="first")
            await eventually_async(lambda: started.exists() and started.read_text().strip())
            for number in range(3000):
                log.event("job.succeeded", job=str(number), outputs=["x" * 1000])
            return notifications.dropped

    dropped = asyncio.run(life())
    assert 0 < dropped < 3000
    assert told.count("notify.dropped") == 1
    assert told.count("job.succeeded") == 3001
    command = int(started.read_text())
    eventually(lambda: is_dead(command))  # one that is killed must have its turn to die


def test_what_is_not_wanted_is_not_handed_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    notify = Notify(exec=("/bin/sh", "-c", f'echo "$STTD_EVENT" >> {out}'), events=("job.failed",))

    async def life() -> None:
        log = Log(io.StringIO())
        async with Notifications(Settings(state_dir=tmp_path, notify=notify), log):
            log.event("job.succeeded", job="one")
            log.event("job.failed", job="two")

    asyncio.run(life())
    assert out.read_text() == "job.failed\n"
