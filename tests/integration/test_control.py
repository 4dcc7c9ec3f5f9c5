"""The control socket as a hostile or clumsy neighbour meets it: raw frames to a real Control."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec
import pytest
import zmq

from sttd.supervisor.access import Access, Peer, parse_peer
from sttd.supervisor.control import MAX_IN_FLIGHT, MAX_WAITING
from sttd.supervisor.curve import Curve
from sttd.supervisor.listener import MAX_PATH, ControlError
from sttd.wire import replies, requests
from sttd.wire.codes import Code
from sttd.wire.replies import Error, Reply
from sttd.wire.requests import CHUNK, Request
from tests.support.control import Daemon, running
from tests.support.waiting import eventually

PATIENCE_MS = 20_000


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as daemon:
        yield daemon


class Line:
    """A raw DEALER: sends what it is told to, however wrong."""

    def __init__(self, daemon: Daemon, kind: int = zmq.DEALER, curve: object = None) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        if isinstance(curve, tuple):
            server, public, secret = curve
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, server)
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        self.socket.connect(daemon.endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def send(self, request: Request, data: bytes | None = None, correlation: bytes = b"1") -> None:
        parts = [correlation, requests.encode(request)]
        self.socket.send_multipart(parts if data is None else [*parts, data])

    def receive(self) -> tuple[bytes, Reply]:
        assert self.socket.poll(PATIENCE_MS), "no answer"
        correlation, body, *_ = self.socket.recv_multipart()
        return correlation, replies.decode(body)

    def ask(self, request: Request, data: bytes | None = None) -> Reply:
        self.send(request, data)
        return self.receive()[1]


def code_of(reply: Reply) -> str:
    assert isinstance(reply, Error)
    return reply.code


# -- where it listens ---------------------------------------------------------------------------
def test_the_socket_is_for_the_group_and_its_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "sttd"
    old = os.umask(0o022)
    try:
        with running(folder):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o750
            for name in ("control.sock", "events.sock"):
                assert stat.S_IMODE((folder / name).stat().st_mode) == 0o660
            assert sorted(os.listdir(folder)) == ["control.sock", "events.sock"]
    finally:
        os.umask(old)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a socket any group")
def test_the_socket_and_its_folder_are_given_the_configured_group(tmp_path: Path) -> None:
    group = grp.getgrall()[-1]
    folder = tmp_path / "run"
    with running(folder, group=group.gr_name) as daemon:
        assert (folder / "control.sock").stat().st_gid == group.gr_gid
        assert folder.stat().st_gid == group.gr_gid
        assert daemon.control.warnings == ()


def test_a_group_that_does_not_exist_narrows_access_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path, group="no-such-group") as daemon:
        assert (tmp_path / "control.sock").stat().st_gid == os.getegid()
        assert "no-such-group" in daemon.control.warnings[0]


def test_a_socket_left_behind_by_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    with running(tmp_path) as daemon, Line(daemon) as line:
        assert isinstance(line.ask(requests.Version()), replies.Version)


def test_a_living_daemon_is_not_robbed_of_its_socket(daemon: Daemon) -> None:
    rival = Daemon(daemon.folder)
    with pytest.raises(ControlError, match=r"control\.sock"):
        rival.start(events_endpoint=f"ipc://{daemon.folder}/other.sock")
    with Line(daemon) as line:
        assert isinstance(line.ask(requests.Version()), replies.Version)
    assert not (daemon.folder / "other.sock").exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "control.sock"
    precious.write_text("a novel")
    with pytest.raises(ControlError, match="no socket"):
        Daemon(tmp_path).start()
    assert precious.read_text() == "a novel"


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("ipc:///" + "x" * MAX_PATH, str(MAX_PATH)),
        ("ipc://@sttd", "abstract"),
        ("ipc://control.sock", "absolute"),
        ("tcp://127.0.0.1:*", "curve_server_key"),
        ("inproc://sttd", "ipc:///path"),
        ("ipc:///proc/nowhere/control.sock", "/proc/nowhere"),
    ],
)
def test_an_endpoint_that_cannot_be_had_is_refused_in_a_sentence(
    tmp_path: Path, endpoint: str, said: str
) -> None:
    with pytest.raises(ControlError, match=said.replace(".", r"\.")):
        Daemon(tmp_path).start(endpoint=endpoint)


def test_a_path_as_long_as_the_kernel_takes_works() -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        name = "s" * (MAX_PATH - len(str(folder)) - 1)
        daemon = Daemon(folder)
        daemon.endpoint = f"ipc://{folder}/{name}"
        daemon.start()
        with Line(daemon) as line:
            assert isinstance(line.ask(requests.Version()), replies.Version)
        daemon.stop()
        assert os.listdir(folder) == []
    finally:
        shutil.rmtree(folder)


def test_stopping_takes_the_sockets_away_but_not_those_of_a_successor(tmp_path: Path) -> None:
    with running(tmp_path):
        (tmp_path / "events.sock").unlink()
        (tmp_path / "events.sock").write_text("somebody else's")
    assert os.listdir(tmp_path) == ["events.sock"]


def test_over_tcp_only_a_known_key_is_heard(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    public, secret = zmq.curve_keypair()
    friend, friends_secret = zmq.curve_keypair()
    stranger, strangers_secret = zmq.curve_keypair()
    curve = Curve(public, secret, frozenset({friend}))
    daemon = Daemon(tmp_path)
    daemon.endpoint = f"tcp://127.0.0.1:{port}"
    daemon.start(curve=curve)
    try:
        with Line(daemon, curve=(public, stranger, strangers_secret)) as line:
            line.send(requests.Drain())
            with Line(daemon, curve=(public, friend, friends_secret)) as known:
                assert isinstance(known.ask(requests.Drain()), replies.Drained)
            with Line(daemon) as naked:
                naked.send(requests.Drain())
                assert not naked.socket.poll(300)
            assert not line.socket.poll(0)
        assert daemon.peers == [Peer(None, key=friend.decode())]
    finally:
        daemon.stop()


# -- who asks -----------------------------------------------------------------------------------
def test_the_kernel_says_who_asks(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.ask(requests.Status())
    assert daemon.peers == [Peer(os.getuid(), os.getgid(), os.getpid())]


def test_a_peer_is_read_from_the_address_and_a_claimed_key_is_not_believed() -> None:
    assert parse_peer("localhost:1000:100:4242", "a key") == Peer(1000, 100, 4242)
    assert parse_peer("10.0.0.1", "a key") == Peer(None, key="a key")
    assert parse_peer("::ffff:10.0.0.1") == Peer(None)


def test_only_administrators_may_use_administrators_verbs() -> None:
    access = Access(service_uid=990)
    for verb in requests.VERBS:
        assert access.allowed(Peer(0), verb)
        assert access.allowed(Peer(990), verb)
        assert access.allowed(Peer(None, key="proved"), verb)
    for peer in (Peer(1000), Peer(None)):
        refused = {verb for verb in requests.VERBS if not access.allowed(peer, verb)}
        assert refused == {"drain", "resume", "recycle", "scale", "reload"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can ask as somebody else")
def test_a_stranger_in_the_group_may_look_but_not_drain() -> None:
    nobody = pwd.getpwnam("nobody")
    group = grp.getgrgid(nobody.pw_gid)
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    script = (
        "import os, sys, zmq\n"
        "os.setgroups([])\n"
        "os.setresgid(*[int(sys.argv[3])] * 3)\n"
        "os.setresuid(*[int(sys.argv[2])] * 3)\n"
        "line = zmq.Context().socket(zmq.REQ)\n"
        "line.connect(sys.argv[1])\n"
        "for verb in ('status', 'drain'):\n"
        '    line.send(b\'{"v":1,"verb":"%s"}\' % verb.encode())\n'
        "    print(line.recv().decode() if line.poll(20000) else 'silence')\n"
        "line.close(0)\n"
    )
    try:
        with running(folder, group=group.gr_name) as daemon:
            who = (str(nobody.pw_uid), str(nobody.pw_gid))
            found = subprocess.run(
                [sys.executable, "-c", script, daemon.endpoint, *who],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            status, drain = found.stdout.splitlines()
            assert msgspec.json.decode(status)["reply"] == "status"
            assert msgspec.json.decode(drain)["code"] == Code.NOT_ALLOWED
            assert daemon.state == "running"
    finally:
        shutil.rmtree(folder)


# -- what is said -------------------------------------------------------------------------------
def test_a_plain_req_socket_is_answered(daemon: Daemon) -> None:
    with Line(daemon, zmq.REQ) as line:
        line.socket.send(b'{"v":1,"verb":"version"}')
        assert line.socket.poll(PATIENCE_MS)
        assert isinstance(replies.decode(line.socket.recv()), replies.Version)


def test_every_answer_carries_its_requests_correlation(daemon: Daemon) -> None:
    job = daemon.add()
    with Line(daemon) as line:
        line.send(requests.Wait(jobs=(job,), timeout_s=60), correlation=b"slow")
        line.send(requests.Version(), correlation=b"quick")
        assert line.receive()[0] == b"quick"
        daemon.finish(job)
        assert line.receive()[0] == b"slow"


@pytest.mark.parametrize(
    "parts",
    [
        [b"alone"],
        [b"1", b"{}", b"", b"one too many"],
        [b"x" * (requests.MAX_CORRELATION + 1), b'{"v":1,"verb":"drain"}'],
        [b"1", b'{"v":1,"verb":"drain"}', *[b""] * 20_000],
    ],
)
def test_what_is_no_request_at_all_is_dropped_and_counted(
    daemon: Daemon, parts: list[bytes]
) -> None:
    with Line(daemon) as line:
        line.socket.send_multipart(parts)
        assert isinstance(line.ask(requests.Version()), replies.Version)
    assert daemon.control.dropped == 1
    assert daemon.state == "running"


@pytest.mark.parametrize(
    "parts",
    [
        [b"1", b"\xff\x00 no json"],
        [b"1", b""],
        [b"1", b'{"v":1,"verb":"submit_chunk","upload":"a","offset":0}'],
        [b"1", b'{"v":1,"verb":"submit_chunk","upload":"a","offset":0}', b""],
        [b"1", b'{"v":1,"verb":"submit_chunk","upload":"a","offset":0}', b"x" * (CHUNK + 1)],
        [b"1", b'{"v":1,"verb":"drain"}', b"baggage"],
    ],
)
def test_a_malformed_request_is_answered_and_changes_nothing(
    daemon: Daemon, parts: list[bytes]
) -> None:
    with Line(daemon) as line:
        line.socket.send_multipart(parts)
        assert code_of(line.receive()[1]) == Code.BAD_REQUEST
    assert daemon.state == "running"
    assert daemon.broken == []


def test_a_frame_beyond_the_limit_costs_its_sender_the_connection(daemon: Daemon) -> None:
    with Line(daemon) as rude, Line(daemon) as polite:
        rude.socket.send_multipart([b"1", b" " * (2 << 20)])
        assert isinstance(polite.ask(requests.Version()), replies.Version)
        assert not rude.socket.poll(100)
    assert daemon.control.dropped == 0


def test_half_a_handshake_holds_nobody_up(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as mute, Line(daemon) as line:
        mute.connect(str(daemon.folder / "control.sock"))
        mute.sendall(b"\xff\x00\x00")
        assert isinstance(line.ask(requests.Version()), replies.Version)
        mute.settimeout(20)
        while mute.recv(4096):
            pass  # its greeting, then the end: the handshake took too long


def test_a_handler_that_fails_is_an_answer_and_is_told_of(daemon: Daemon) -> None:
    daemon.allow_path = lambda path: bool(1 / len(path[:0]))
    with Line(daemon) as line:
        reply = line.ask(requests.SubmitPath(path="/a.wav"))
        assert code_of(reply) == Code.INTERNAL
        assert isinstance(line.ask(requests.Version()), replies.Version)
    assert [type(error) for error in daemon.broken] == [ZeroDivisionError]


def test_those_who_wait_hold_nobody_up(daemon: Daemon) -> None:
    job = daemon.add()
    with Line(daemon) as crowd, Line(daemon) as line:
        for _ in range(MAX_WAITING):
            crowd.send(requests.Wait(jobs=(job,), timeout_s=60))
        eventually(lambda: len(daemon.seen) == MAX_WAITING)
        assert isinstance(line.ask(requests.Status()), replies.Status)
        assert code_of(line.ask(requests.Wait(jobs=(job,)))) == Code.BUSY
        daemon.finish(job)
        assert all(isinstance(crowd.receive()[1], replies.Jobs) for _ in range(MAX_WAITING))
        assert isinstance(line.ask(requests.Wait(jobs=(job,))), replies.Jobs)


def test_no_more_requests_are_read_than_can_be_answered_and_none_is_lost(daemon: Daemon) -> None:
    daemon.hold.set()
    with Line(daemon) as crowd:
        for number in range(3 * MAX_IN_FLIGHT):
            crowd.send(requests.Status(), correlation=str(number).encode())
        eventually(lambda: len(daemon.seen) == MAX_IN_FLIGHT)
        assert not crowd.socket.poll(100)
        assert len(daemon.seen) == MAX_IN_FLIGHT
        daemon.hold.clear()
        answered = {crowd.receive()[0] for _ in range(3 * MAX_IN_FLIGHT)}
        assert answered == {str(number).encode() for number in range(3 * MAX_IN_FLIGHT)}


def test_a_client_that_reads_no_answers_costs_no_memory_and_no_time(daemon: Daemon) -> None:
    with Line(daemon) as deaf, Line(daemon) as line:
        deaf.socket.setsockopt(zmq.RCVHWM, 1)
        for _ in range(2000):
            deaf.send(requests.Status())
        eventually(lambda: len(daemon.seen) >= 2000)
        assert isinstance(line.ask(requests.Status()), replies.Status)


def test_events_reach_those_who_subscribed_to_their_name(daemon: Daemon) -> None:
    context = zmq.Context()
    listener = context.socket(zmq.SUB)
    try:
        listener.subscribe("job.")
        listener.connect(daemon.events_endpoint)
        sent = {}

        def heard() -> bool:
            daemon.publish("worker.ready", worker="w-1")
            sent.update(daemon.publish("job.failed", job="1", code="crashed"))
            return bool(listener.poll(50))

        eventually(heard)
        topic, record = listener.recv_multipart()
        assert topic == b"job.failed"
        assert msgspec.json.decode(record) == sent
    finally:
        context.destroy(linger=0)


# -- uploads ------------------------------------------------------------------------------------
def opened(line: Line, size: int = 10, name: str = "a.wav") -> str:
    reply = line.ask(requests.SubmitOpen(name=name, bytes=size))
    assert isinstance(reply, replies.Opened)
    return reply.upload


def files(daemon: Daemon) -> list[str]:
    return os.listdir(daemon.folder / "uploads")


def test_an_upload_becomes_the_recording_that_was_sent(daemon: Daemon) -> None:
    with Line(daemon) as line:
        upload = opened(line)
        for offset, data in ((0, b"0123"), (4, b"456789")):
            reply = line.ask(requests.SubmitChunk(upload=upload, offset=offset), data)
            assert reply == replies.Received(upload, offset + len(data))
        reply = line.ask(requests.SubmitCommit(upload=upload))
        assert isinstance(reply, replies.Submitted)
        assert not reply.job.duplicate
        assert daemon.recordings == {reply.job.job: b"0123456789"}
        assert files(daemon) == []


def test_what_is_sent_or_committed_twice_counts_once(daemon: Daemon) -> None:
    with Line(daemon) as line:
        upload = opened(line)
        line.ask(requests.SubmitChunk(upload=upload, offset=0), b"012345")
        again = line.ask(requests.SubmitChunk(upload=upload, offset=0), b"012345")
        assert again == replies.Received(upload, 6)
        within = line.ask(requests.SubmitChunk(upload=upload, offset=4), b"456789")
        assert code_of(within) == Code.BAD_OFFSET  # it would write over what is there
        line.ask(requests.SubmitChunk(upload=upload, offset=6), b"6789")
        first = line.ask(requests.SubmitCommit(upload=upload))
        assert line.ask(requests.SubmitCommit(upload=upload)) == first
        assert list(daemon.recordings.values()) == [b"0123456789"]


def test_two_commits_at_once_make_one_job(daemon: Daemon) -> None:
    with Line(daemon) as line:
        upload = opened(line, size=0)
        line.send(requests.SubmitCommit(upload=upload))
        line.send(requests.SubmitCommit(upload=upload))
        assert line.receive() == line.receive()
        assert len(daemon.jobs) == 1


@pytest.mark.parametrize(
    ("offset", "data"), [(1, b"late"), (0, b"more than was announced")], ids=["gap", "too much"]
)
def test_a_chunk_that_does_not_fit_is_refused(daemon: Daemon, offset: int, data: bytes) -> None:
    with Line(daemon) as line:
        upload = opened(line)
        reply = line.ask(requests.SubmitChunk(upload=upload, offset=offset), data)
        assert code_of(reply) == Code.BAD_OFFSET


def test_half_an_upload_cannot_be_committed(daemon: Daemon) -> None:
    with Line(daemon) as line:
        upload = opened(line)
        line.ask(requests.SubmitChunk(upload=upload, offset=0), b"half")
        assert code_of(line.ask(requests.SubmitCommit(upload=upload))) == Code.BAD_OFFSET
        assert daemon.jobs == {}


def test_an_upload_given_up_leaves_nothing_behind(daemon: Daemon) -> None:
    with Line(daemon) as line:
        upload = opened(line)
        assert files(daemon) == [upload]
        line.ask(requests.SubmitAbort(upload=upload))
        assert files(daemon) == []
        reply = line.ask(requests.SubmitChunk(upload=upload, offset=0), b"x")
        assert code_of(reply) == Code.UNKNOWN_UPLOAD


def test_a_recording_beyond_the_limit_is_refused_before_it_is_sent(daemon: Daemon) -> None:
    with Line(daemon) as line:
        reply = line.ask(requests.SubmitOpen(name="a.wav", bytes=daemon.max_bytes + 1))
        assert code_of(reply) == Code.TOO_LARGE


def test_uploads_are_bounded_and_idle_ones_make_room(daemon: Daemon) -> None:
    with Line(daemon) as line:
        uploads = [opened(line) for _ in range(32)]
        reply = line.ask(requests.SubmitOpen(name="a.wav", bytes=1))
        assert code_of(reply) == Code.BUSY
        daemon.do(lambda: setattr(daemon.uploads, "_idle_s", -1.0))
        assert daemon.do(daemon.uploads.expire) == len(uploads)
        assert files(daemon) == []
        opened(line)


def test_nobody_continues_the_upload_of_somebody_else(daemon: Daemon) -> None:
    with Line(daemon) as line:
        upload = opened(line)
        other = Peer(os.getuid() + 1)
        with pytest.raises(requests.RequestError, match="no upload"):
            daemon.do(lambda: daemon.uploads._find(upload, other))


def test_stopping_forgets_what_was_never_committed(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, Line(daemon) as line:
        opened(line)
        daemon.stop()
        assert files(daemon) == []


def test_a_full_disk_is_told_and_the_daemon_goes_on(daemon: Daemon) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with Line(daemon) as line:
        upload = opened(line)
        found = daemon.uploads._uploads[upload]
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, found.fd)
        os.close(full)
        reply = line.ask(requests.SubmitChunk(upload=upload, offset=0), b"x")
        assert code_of(reply) == Code.ENVIRONMENT
        assert isinstance(line.ask(requests.Version()), replies.Version)
