"""Messages and descriptors over a socketpair."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from sttd.supervisor.link import Link
from sttd.wire.frames import MAX_FRAME, FrameError, frame
from sttd.wire.messages import Decode, Decoded, DecodeLimits, FromDecoder, FromWorker, Probed
from sttd.worker.channel import MAX_FDS, Channel
from tests.support.waiting import eventually_async

LIMITS = DecodeLimits(max_duration_s=1.0, max_channels=2)
LONG = 500_000  # more than a socket takes at once
Pair = tuple[Channel[Decode], Channel[Decode]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, two = socket.socketpair()
    channels = Channel[Decode](one, Decode), Channel[Decode](two, Decode)
    yield channels
    for channel in channels:
        channel.close()


def order(name: str = "a.wav") -> Decode:
    return Decode(name=name, start_s=0.0, limits=LIMITS)


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_message_arrives_as_it_was_sent(pair: Pair) -> None:
    pair[0].send(order("Gespräch.wav"))
    assert pair[1].recv() == (order("Gespräch.wav"), [])


def test_messages_of_a_union_are_told_apart() -> None:
    one, two = socket.socketpair()
    sender, receiver = (
        Channel[FromDecoder](one, FromDecoder),
        Channel[FromDecoder](two, FromDecoder),
    )
    sent = [Probed(duration_s=None, format="wav", codec="x"), Decoded(duration_s=1.0)]
    for message in sent:
        sender.send(message)
    assert [receiver.recv()[0] for _ in sent] == sent
    sender.close()
    receiver.close()


def test_descriptors_arrive_with_the_message_they_were_sent_with(pair: Pair) -> None:
    reading, writing = os.pipe()
    for name, fds in (("first", ()), ("second", (writing,)), ("third", ())):
        pair[0].send(order(name), fds)
    os.close(writing)
    received = [pair[1].recv() for _ in range(3)]
    assert [(message.name, len(fds)) for message, fds in received] == [
        ("first", 0),
        ("second", 1),
        ("third", 0),
    ]
    arrived = received[1][1][0]
    os.write(arrived, b"through")
    assert os.read(reading, 100) == b"through"
    assert not os.get_inheritable(arrived)
    os.close(arrived)
    os.close(reading)


def test_a_message_longer_than_the_socket_holds_arrives_whole(pair: Pair) -> None:
    long = order("x" * (MAX_FRAME - 1000))
    reading, writing = os.pipe()
    sender = threading.Thread(target=pair[0].send, args=(long, (writing,)))
    sender.start()
    message, fds = pair[1].recv()
    sender.join()
    assert message == long
    assert len(fds) == 1
    for fd in (*fds, reading, writing):
        os.close(fd)


def test_many_threads_may_send_at_once(pair: Pair) -> None:
    def send(number: int) -> None:
        for _ in range(10):
            pair[0].send(order(str(number) * LONG))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    names = [pair[1].recv()[0].name for _ in range(40)]
    for thread in threads:
        thread.join()
    assert sorted(set(names)) == [str(number) * LONG for number in range(4)]


def test_the_peers_end_is_end_of_file(pair: Pair) -> None:
    pair[0].send(order())
    pair[0].close()
    assert pair[1].recv()[0] == order()
    with pytest.raises(EOFError):
        pair[1].recv()


def test_a_peer_that_dies_with_our_message_unread_is_end_of_file_too(pair: Pair) -> None:
    pair[1].send(order())
    pair[0].close()
    with pytest.raises(EOFError):
        pair[1].recv()


def test_half_a_message_and_its_descriptors_are_dropped_at_end_of_file(pair: Pair) -> None:
    before = open_fds()
    reading, writing = os.pipe()
    socket.send_fds(pair[0].sock, [frame(b"x" * 100)[:50]], [reading, writing])
    os.close(reading)
    os.close(writing)
    pair[0].sock.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        pair[1].recv()
    assert open_fds() == before


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(b"\xc1garbage"), "not a message"),
        (frame(b"\x80"), "not a message"),
        (frame(msgspec.msgpack.encode(order("qq")).replace(b"qq", b"\xff\xff")), "not a message"),
        (b"\xff\xff\xff\xff", "was announced"),
    ],
)
def test_what_is_no_message_is_a_frame_error_and_leaks_no_descriptor(
    pair: Pair, data: bytes, reason: str
) -> None:
    before = open_fds()
    reading, writing = os.pipe()
    socket.send_fds(pair[0].sock, [data], [reading, writing])
    os.close(reading)
    os.close(writing)
    with pytest.raises(FrameError, match=reason):
        pair[1].recv()
    assert open_fds() == before


def test_a_flood_of_descriptors_is_a_frame_error(pair: Pair) -> None:
    before = open_fds()
    many = [os.dup(0) for _ in range(MAX_FDS + 4)]
    socket.send_fds(pair[0].sock, [frame(b"x")], many)
    for fd in many:
        os.close(fd)
    with pytest.raises(FrameError, match="more than 8 descriptors"):
        pair[1].recv()
    assert open_fds() == before


def test_after_a_timeout_in_the_middle_nothing_is_lost(pair: Pair) -> None:
    data = frame(msgspec.msgpack.encode(order("whole")))
    pair[1].sock.settimeout(0.01)
    for part in (data[:2], data[2:20], data[20:]):
        with pytest.raises(TimeoutError):
            pair[1].recv()
        pair[0].sock.sendall(part)
    assert pair[1].recv()[0].name == "whole"


def test_sending_to_a_dead_peer_is_an_error_and_no_signal(pair: Pair) -> None:
    pair[1].close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        pair[0].send(order())


@pytest.mark.parametrize("body", [b"\xc1", b"\x82\xa4type\xa5ready\xa6worker\xa1\xff"])
def test_a_link_ends_when_its_peer_speaks_nonsense(body: bytes) -> None:
    async def story() -> list[str]:
        ours, theirs = socket.socketpair()
        ended: list[str] = []
        with theirs:
            Link(ours, msgspec.msgpack.Decoder(FromWorker), lambda _news: None, ended.append)
            theirs.sendall(frame(body))
            await eventually_async(lambda: ended, "it ends")
        return ended

    [why] = asyncio.run(story())
    assert "nonsense" in why
