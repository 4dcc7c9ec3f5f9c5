"""The control socket on tcp, with the keys that `sttctl keygen` makes."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

from tests.support.daemon import ROOT, Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone


def ctl(*args: str, keys: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ.pop("STTD_KEYS", None)
    if keys is not None:
        environ["STTD_KEYS"] = str(keys)
    return subprocess.run(
        [sys.executable, "-m", "sttd.ctl", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environ,
    )


def ports() -> tuple[int, int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        return one.getsockname()[1], two.getsockname()[1]


def on_tcp(sttd: Daemon, clients: Path) -> str:
    one, two = ports()
    endpoint = f"tcp://127.0.0.1:{one}"
    sttd.configure(
        control={
            "endpoint": endpoint,
            "events": f"tcp://127.0.0.1:{two}",
            "curve_server_key": "control-key",
            "curve_clients": str(clients),
        }
    )
    return endpoint


def test_keys_are_made_for_their_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = ctl("keygen", str(folder), "--json")
    assert made.returncode == 0, made.stderr
    assert len(json.loads(made.stdout)["files"]) == 4
    for name in ("server.key", "client.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert ctl("keygen", str(folder)).returncode != 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert ctl("keygen", str(folder), "--name", "laptop").returncode == 0
    assert (folder / "server.pub").read_bytes() == before["server.pub"]
    assert sorted(set(os.listdir(folder)) - set(before)) == ["laptop.key", "laptop.pub"]
    assert ctl("keygen", str(folder), "--name", "../x").returncode == 2


def test_a_client_with_a_known_key_transcribes_over_tcp_and_others_get_no_answer(
    tmp_path: Path,
) -> None:
    folder, clients = tmp_path / "keys", tmp_path / "clients"
    assert ctl("keygen", str(folder)).returncode == 0
    clients.mkdir()
    (folder / "client.pub").rename(clients / "client.pub")
    assert ctl("keygen", str(folder), "--name", "stranger").returncode == 0
    secret = secret_of(folder)
    with daemon() as sttd:
        endpoint = on_tcp(sttd, clients)
        sttd.start(env={"STTD_CREDENTIAL_CONTROL_KEY": secret})
        wav = tone(tmp_path / "talk.wav", 0.2)
        known = ("--socket", endpoint)
        sent = ctl(*known, "submit", str(wav), "--wait", "--json", keys=folder / "client.key")
        assert sent.returncode == 0, sent.stderr
        assert ctl(*known, "drain", keys=folder / "client.key").returncode == 0
        assert ctl(*known, "status", keys=folder / "stranger.key").returncode == 4
        assert ctl(*known, "status").returncode == 2
        assert secret not in sttd.log_path.read_text()
        assert sttd.stop() == 0


# Connects until it is refused, says nothing, and tells how far it got.
FLOOD = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (5000, 5000))
held = []
while len(held) < 4000:
    try:
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1.0))
    except OSError:
        break
print(len(held), flush=True)
sys.stdin.read()
"""


def test_a_flood_of_connections_over_tcp_leaves_the_daemon_alive_and_jobs_go_on(
    tmp_path: Path,
) -> None:
    folder, clients = tmp_path / "keys", tmp_path / "clients"
    assert ctl("keygen", str(folder)).returncode == 0
    clients.mkdir()
    (folder / "client.pub").rename(clients / "client.pub")
    wav = tone(tmp_path / "talk.wav", 0.2)
    with daemon() as sttd:
        endpoint = on_tcp(sttd, clients)
        sttd.start(wait=False, env={"STTD_CREDENTIAL_CONTROL_KEY": secret_of(folder)})
        resource.prlimit(sttd.pid, resource.RLIMIT_NOFILE, (512, 512))
        sttd.until("daemon.ready")
        port = endpoint.rpartition(":")[2]
        flood = subprocess.Popen(
            [sys.executable, "-c", FLOOD, port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert flood.stdout is not None
        connected = int(flood.stdout.readline())
        assert connected < 4000  # those in the backlog count themselves as connected, too
        sttd.drop("during.wav", wav)
        assert sttd.transcript("during")
        assert sttd.process is not None
        assert sttd.process.poll() is None
        said = [e["message"] for e in sttd.events("control.trouble")]
        assert any("nobody else can connect" in line for line in said)
        flood.communicate("")
        known = ("--socket", endpoint, "status")
        eventually(
            lambda: ctl(*known, keys=folder / "client.key").returncode == 0,
            "whoever has a key gets an answer again",
        )
        assert sttd.stop() == 0


def secret_of(folder: Path) -> str:
    return (folder / "server.key").read_text().strip()


def test_tcp_without_a_usable_key_is_said_in_one_line_that_tells_no_secret(
    tmp_path: Path,
) -> None:
    clients = tmp_path / "clients"
    clients.mkdir()
    with daemon() as sttd:
        on_tcp(sttd, clients)
        for secret, said in (("not-a-curve-key", "is no CURVE key"), ("", "is empty")):
            sttd.start(wait=False, env={"STTD_CREDENTIAL_CONTROL_KEY": secret})
            assert sttd.process is not None
            assert sttd.process.wait(30) != 0
            text = sttd.log_path.read_text()
            assert said in text
            assert "not-a-curve-key" not in text
