"""A job's life as people read it."""

from __future__ import annotations

import pytest

from sttd.ctl import timeline
from sttd.events import EVENTS
from sttd.wire.views import EventView

RUN: EventView = {"job": "1", "source": "a.wav", "attempt": 2, "worker": "w-7"}
OUTCOME = {**RUN, "code": "crashed", "message": "w-7 died by signal 11"}


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("accepted", {"kind": "inbox", "bytes": 2048, "priority": 0, "key": None},
         "from the inbox, 2.0 KiB"),
        ("accepted", {"kind": "control", "bytes": 1, "priority": -3, "key": "call-1"},
         "submitted, 1 B, priority -3, key call-1"),
        ("accepted", {"kind": "url", "bytes": 1, "priority": 0, "key": "client/0190"},
         "fetched, 1 B"),
        ("started", RUN, "attempt 2 on w-7"),
        ("resumed", {**RUN, "segments": 1}, "attempt 2 on w-7: goes on behind 1 segment"),
        ("resumed", RUN, "attempt 2 on w-7: goes on behind what was heard"),
        ("requeued", {**OUTCOME, "delay_s": 0.0},
         "attempt 2 on w-7: crashed: w-7 died by signal 11; again at once"),
        ("deferred", {**OUTCOME, "delay_s": 90},
         "attempt 2 on w-7: crashed: w-7 died by signal 11; again in 1 min 30 s"),
        ("requeued", {**RUN, "worker": None, "code": "retry", "message": "asked by an operator",
                      "delay_s": 0.0}, "asked by an operator"),
        ("failed", {**OUTCOME, "worker": None}, "attempt 2: crashed: w-7 died by signal 11"),
        ("succeeded", {**RUN, "duration_s": 61.4, "outputs": ["a.txt", "a.json"]},
         "attempt 2 on w-7: 1:01 of audio, 2 files"),
        ("cancelled", {}, "by request"),
        ("clamped", {"segments": 2}, "2 segments cut to fit the recording"),
        ("accepted", {"job": "1", "kind": "new", "bytes": 1}, "kind=new bytes=1"),
        ("worker.killed", {"worker": "w-1", "reason": "stalled"}, "worker=w-1 reason=stalled"),
        ("succeeded", {"duration_s": None, "attempt": 1}, "attempt=1"),
    ],
)  # fmt: skip
def test_every_event_of_a_job_is_told_in_words(name: str, fields: EventView, told: str) -> None:
    assert timeline.tell(name, fields) == told


def test_no_event_of_a_job_is_without_words() -> None:
    names = {name.removeprefix("job.") for name in EVENTS if name.startswith("job.")}
    assert names - timeline._WORDS.keys() == {"progress"}  # which the ledger does not keep
