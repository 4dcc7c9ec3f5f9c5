"""When the inbox is scanned."""

from __future__ import annotations

from sttd.supervisor.schedule import ScanSchedule


def scan(schedule: ScanSchedule, begin: float, end: float) -> None:
    schedule.began()
    schedule.did(begin, end, finished=True)


def test_the_first_scan_is_due_at_once() -> None:
    assert ScanSchedule(30.0).is_time(0.0)


def test_without_a_ring_the_next_scan_comes_after_the_rescan_time() -> None:
    schedule = ScanSchedule(30.0)
    scan(schedule, 100.0, 100.0)
    assert not schedule.is_time(129.9)
    assert schedule.wait(100.0) == 30.0
    assert schedule.is_time(130.0)


def test_a_ring_brings_a_scan_at_once_where_scans_are_short() -> None:
    schedule = ScanSchedule(30.0)
    scan(schedule, 100.0, 100.0)
    schedule.ask()
    assert schedule.is_time(100.0)


def test_a_long_scan_is_followed_by_a_rest_however_often_the_bell_rings() -> None:
    schedule = ScanSchedule(300.0)
    scan(schedule, 100.0, 101.0)
    schedule.ask()
    assert not schedule.is_time(120.9)
    assert schedule.is_time(121.0)


def test_a_ring_during_a_scan_brings_another() -> None:
    schedule = ScanSchedule(30.0)
    schedule.began()
    schedule.ask()
    schedule.did(100.0, 100.0, finished=False)
    assert schedule.running
    assert schedule.is_time(100.0)
    schedule.did(100.0, 100.0, finished=True)
    assert schedule.is_time(100.0)


def test_a_scan_that_was_given_up_begins_anew() -> None:
    schedule = ScanSchedule(30.0)
    scan(schedule, 100.0, 101.0)
    schedule.began()
    schedule.abandon()
    assert not schedule.running
    assert schedule.is_time(101.0)
