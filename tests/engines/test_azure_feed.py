"""The bounded buffer between the job's thread and the SDK's."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttd.engines.azure.feed import CAPACITY, Feed

LIMIT_S = 10


def reader(feed: Feed, size: int, into: bytearray) -> threading.Thread:
    """The SDK's thread: reads until it is told of the end."""

    def run() -> None:
        while part := feed.read(0, size):
            assert len(part) <= size
            into.extend(part)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@settings(max_examples=25)
@given(
    st.lists(st.binary(min_size=1, max_size=65_536), max_size=12),
    st.integers(min_value=2, max_value=6400),
)
def test_what_goes_in_comes_out_whatever_the_sizes(chunks: list[bytes], size: int) -> None:
    room = threading.Semaphore(0)
    feed = Feed(room.release)
    feed.open()
    got = bytearray()
    thread = reader(feed, size, got)
    for chunk in chunks:
        while not feed.has_room():
            assert room.acquire(timeout=LIMIT_S)
        feed.put(chunk)
    feed.end()
    thread.join(LIMIT_S)

    assert bytes(got) == b"".join(chunks)
    assert feed.taken == len(got)
    assert feed.drained


def test_there_is_no_room_beyond_its_capacity() -> None:
    feed = Feed(lambda: None)
    chunk = bytes(10_000)
    put = 0
    while feed.has_room():
        feed.put(chunk)
        put += len(chunk)

    assert CAPACITY <= put < CAPACITY + len(chunk)


def test_nothing_is_handed_over_before_the_connection_stands() -> None:
    feed = Feed(lambda: None)
    feed.put(b"audio")
    got = bytearray()
    thread = reader(feed, 100, got)

    feed.end()
    thread.join(0.05)
    assert thread.is_alive()
    assert not feed.taken
    feed.open()
    thread.join(LIMIT_S)

    assert got == b"audio"


def test_a_thread_that_waits_is_let_go_and_the_audio_stays_for_the_next_session() -> None:
    feed = Feed(lambda: None)
    feed.put(b"audio")
    thread = reader(feed, 100, bytearray())

    feed.leave()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert not feed.drained
    feed.open()

    assert feed.read(0, 100) == b""  # the first session's thread, late
    assert feed.read(1, 100) == b"audio"


@pytest.mark.parametrize("size", [1, 3200])
def test_the_caller_is_told_once_when_there_is_room_again(size: int) -> None:
    told: list[str] = []
    feed = Feed(lambda: told.append("room"))
    feed.open()
    feed.put(bytes(CAPACITY))
    assert not feed.has_room()

    while feed.taken < CAPACITY:
        feed.read(0, size)

    assert told == ["room"]
