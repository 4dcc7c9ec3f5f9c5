"""The control socket under malformed, oversized, half-sent and out-of-order frames; fixed seed."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from sttd.client import Client
from sttd.supervisor.control import MAX_MESSAGE
from sttd.wire import requests
from tests.support.daemon import Daemon, daemon
from tests.support.tally import sweep
from tests.support.waiting import eventually

SEED = 20260131
GROWTH = 24 << 20  # bytes of RSS allowed: allocators keep some of what bursts needed
PART = 1_000_000  # bytes; control.max_message takes it
VALID = [
    requests.encode(each)
    for each in (
        requests.Status(),
        requests.Jobs(),
        requests.Show(job="x"),
        requests.SubmitOpen(name="a.wav", bytes=10),
        requests.SubmitChunk(upload="x", offset=0),
        requests.SubmitCommit(upload="x"),
        requests.SubmitAbort(upload="x"),
        requests.Cancel(job="x"),
    )
]
# A greeting of ZMTP 3.1 (RFC 37) and the NULL handshake of a DEALER.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL".ljust(22 + 2, b"\0") + bytes(31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


def mangled(chance: random.Random) -> list[bytes]:
    """A message of one to seven parts, one of which is a request that was hurt."""
    body = bytearray(chance.choice(VALID))
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(body))
        match chance.randrange(4):
            case 0:
                body[place] ^= 1 << chance.randrange(8)
            case 1:
                del body[place : place + chance.randrange(1, 9)]
            case 2:
                body[place:place] = chance.randbytes(chance.randrange(1, 9))
            case _:
                body[place:place] = b'[{"' * chance.randrange(1, 2000)
        body = body or bytearray(b"{")
    parts = [chance.randbytes(chance.randrange(20)), bytes(body)]
    for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 5))):
        parts.insert(chance.randrange(3), chance.randbytes(chance.choice((0, 1, 40, 3000))))
    return parts


def half_sent(path: Path, chance: random.Random) -> None:
    """A peer of bytes: noise, a torn handshake, a frame that claims more than it brings."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        line.connect(str(path))
        match chance.randrange(4):
            case 0:
                line.sendall(chance.randbytes(chance.randrange(1, 200)))
            case 1:
                line.sendall(GREETING[: chance.randrange(1, len(GREETING))])
            case 2:
                line.sendall(GREETING + READY[: chance.randrange(1, len(READY))])
            case _:
                size = chance.choice((100, 1 << 20, 1 << 40, (1 << 63) - 1))
                line.sendall(GREETING + READY + b"\x02" + struct.pack(">Q", size) + b"half")


def too_much(path: Path, chance: random.Random) -> None:
    """A frame that is too large, sent as far as it is taken: the daemon hangs up upon it."""
    size = MAX_MESSAGE + chance.randrange(1, MAX_MESSAGE)
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(path))
        line.sendall(GREETING + READY)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            line.sendall(b"\x02" + struct.pack(">Q", size) + bytes(size))
            while line.recv(4096):
                pass


def ask(line: zmq.Socket[bytes], number: int) -> None:
    """A valid request among the others is answered; then all that was sent before was taken."""
    mine = b"valid %d" % number
    line.send_multipart([mine, requests.encode(requests.Status())])
    while (answer := line.recv_multipart())[0] != mine:
        pass
    assert b'"running"' in answer[1]


@pytest.fixture
def fuzzed() -> Iterator[Daemon]:
    with daemon() as sttd:
        sttd.start()
        yield sttd
        assert sttd.stop() == 0


def attack(sttd: Daemon, frames: int) -> int:
    """Send so many; how many valid requests were answered meanwhile."""
    chance = random.Random(SEED)
    path = sttd.home / "c.sock"
    context = zmq.Context()
    line = context.socket(zmq.DEALER)
    line.setsockopt(zmq.SNDTIMEO, 20_000)
    line.setsockopt(zmq.RCVTIMEO, 20_000)
    answered = 0
    try:
        line.connect(sttd.endpoint)
        sent = 0
        while sent < frames:
            parts = mangled(chance)
            line.send_multipart(parts)
            sent += len(parts)
            with contextlib.suppress(zmq.Again):
                while True:
                    line.recv_multipart(zmq.NOBLOCK)
            if not chance.randrange(500):
                half_sent(path, chance)
            if not chance.randrange(5000):
                too_much(path, chance)
            if not chance.randrange(1000):
                ask(line, answered := answered + 1)
        ask(line, answered := answered + 1)
    finally:
        context.destroy(linger=0)
    return answered


def check(sttd: Daemon, frames: int) -> list[str]:
    """What is worth telling of it."""
    me = psutil.Process(sttd.pid)
    attack(sttd, 3000)  # warm
    before = me.memory_info().rss

    def grown() -> int:
        return me.memory_info().rss - before

    answered = attack(sttd, frames)
    assert sttd.status()["daemon"]["state"] == "running"
    eventually(lambda: grown() < GROWTH, "memory is flat", 20)
    assert [e for e in sttd.events("control.trouble") if "Error" in e["message"]] == []
    return [
        f"{answered} valid requests among them answered",
        f"the daemon grew by {grown() / (1 << 20):.1f} MiB",
    ]


def sent_until_cut_off(line: socket.socket, part: bytes) -> int:
    """How many bytes of a message without an end went out."""
    sent = 0
    while sent < 4 << 30:
        try:
            line.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            break
        sent += len(part)
    return sent


def test_a_message_without_an_end_is_cut_off_and_its_memory_given_back(fuzzed: Daemon) -> None:
    me = psutil.Process(fuzzed.pid)
    fuzzed.status()
    before = me.memory_info().rss
    part = b"\x03" + struct.pack(">Q", PART) + bytes(PART)  # a long frame, and more to come
    with Client(fuzzed.endpoint) as client, socket.socket(socket.AF_UNIX) as line:
        assert client.status().daemon.state == "running"
        line.connect(str(fuzzed.home / "c.sock"))
        line.sendall(GREETING)
        assert len(line.recv(len(GREETING), socket.MSG_WAITALL)) == len(GREETING)
        line.sendall(READY)
        assert b"READY" in line.recv(64)
        assert sent_until_cut_off(line, part) < 2 << 30
        assert client.status().daemon.state == "running"  # it was cut off as well, and came again
    eventually(lambda: me.memory_info().rss - before < GROWTH, "the memory is given back", 20)
    assert "all were disconnected" in fuzzed.until("control.trouble")["message"]


def test_tens_of_thousands_of_bad_frames_change_nothing(fuzzed: Daemon) -> None:
    check(fuzzed, 40_000)


@pytest.mark.sweep
@pytest.mark.timeout(1800)
def test_a_million_bad_frames_change_nothing(fuzzed: Daemon) -> None:
    """A minute."""
    with sweep("Malformed, oversized, torn frames at the control socket", "frames") as tried:
        tried.notes += check(fuzzed, 1_000_000)
        tried.count = 1_000_000
