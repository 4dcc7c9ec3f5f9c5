"""More clients than the daemon has descriptors: it lives, jobs go on, and it answers again."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

# Of the daemon: a quarter for clients, and room for the thousand that libzmq may accept before
# anybody can stop it.
DESCRIPTORS = 4096
MANY = 4900  # try to connect
# Connects until nobody can any more, says nothing, and tells how far it got.
FLOOD = """
import resource, socket, struct, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (5000, 5000))
path, most = sys.argv[1], int(sys.argv[2])
held = []
while len(held) < most:
    one = socket.socket(socket.AF_UNIX)
    # blocks while the backlog is full, as a nonblocking one would not
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
    try:
        one.connect(path)
    except OSError:
        break
    held.append(one)
print(len(held), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def flood(path: Path) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", FLOOD, str(path), str(MANY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.communicate("")


def start_with_few_descriptors(sttd: Daemon) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    sttd.start(wait=False)
    assert sttd.process is not None
    # before it raises its soft limit to the hard one; checked below
    resource.prlimit(sttd.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    sttd.until("daemon.ready")
    assert resource.prlimit(sttd.pid, resource.RLIMIT_NOFILE) == (DESCRIPTORS, DESCRIPTORS)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_a_flood_of_connections_leaves_the_daemon_alive_and_jobs_go_on(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    with daemon() as sttd:
        start_with_few_descriptors(sttd)
        for name in ("c.sock", "e.sock"):
            path = sttd.home / name
            with flood(path) as connected:
                # those in the backlog count themselves as connected, too
                assert connected < MANY
                sttd.drop(f"during-{name}.wav", wav)
                assert sttd.transcript(f"during-{name}")
            eventually(path.is_socket, "the door is open again")
        assert sttd.process is not None
        assert sttd.process.poll() is None
        eventually(lambda: sttd.status()["queue"]["succeeded"] == 2, "both are recorded")
        said = [e["message"] for e in sttd.events("control.trouble")]
        assert sum("nobody else can connect" in line for line in said) >= 2
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(sttd.home / "c.sock"))
        assert sttd.stop() == 0
        assert not list(sttd.home.glob("*.sock"))
        assert not list(sttd.home.glob(".*.sock"))
