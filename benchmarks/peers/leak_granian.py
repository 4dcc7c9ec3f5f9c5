"""granian: looks once a second at best, starts a successor, then asks, then kills."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers import leak_web


def main() -> None:
    """Serve `leak`."""
    port = leak_web.free_port()
    command = [
        str(Path(sys.prefix) / "bin" / "granian"),
        "--host=127.0.0.1",
        f"--port={port}",
        "--interface=wsgi",
        "--workers=2",
        "--blocking-threads=1",
        f"--workers-max-rss={sys.argv[1]}",
        "--rss-sample-interval=1",
        "--respawn-interval=0",
        "--workers-kill-timeout=1",
        "--no-access-log",
        "--log-level=error",
        "benchmarks.peers.leak_app:application",
    ]
    leak_web.run(command, port, 0.2, "granian")
