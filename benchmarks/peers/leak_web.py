"""The leaking job as a request to a web server that kills its workers at a ceiling.

The client of `leak_app`, which tries again at once where the connection is lost. Two workers, so
that the second takes the next try.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import time
from pathlib import Path

from benchmarks.peers.line import Line

ROOT = Path(__file__).resolve().parents[2]
AGAIN_S = 0.001


def free_port() -> int:
    """On the loopback."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def request(port: int, body: str, timeout_s: float) -> int:
    """Ask until it is answered; how often that took."""
    end = time.monotonic() + timeout_s
    tries = 0
    while time.monotonic() < end:
        tries += 1
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/", body)
            if connection.getresponse().status == http.client.OK:
                return tries
        connection.close()
        time.sleep(AGAIN_S)
    raise TimeoutError(f"no answer within {timeout_s:g} s")


def run(command: list[str], port: int, settle_s: float, *packages: str) -> None:
    """Start the server, serve `leak`, end it."""
    line = Line()
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)

    def leak(**case: object) -> str:
        tries = request(port, json.dumps(case), 40)
        time.sleep(settle_s)  # until the killed worker's successor is there
        request(port, "", 30)
        return f"{tries} tries"

    try:
        request(port, "", 30)
        time.sleep(settle_s)
        line.serve({"leak": leak}, *packages)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
