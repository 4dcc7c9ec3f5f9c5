"""uWSGI: `evil-reload-on-rss` kills without grace; its collector looks once a second at best."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers import leak_web


def main() -> None:
    """Serve `leak`."""
    port = leak_web.free_port()
    venv = Path(sys.prefix)
    command = [
        str(venv / "bin" / "uwsgi"),
        f"--http-socket=127.0.0.1:{port}",
        "--master",
        "--processes=2",
        f"--venv={venv}",
        f"--pythonpath={leak_web.ROOT}",
        "--module=benchmarks.peers.leak_app:application",
        f"--evil-reload-on-rss={sys.argv[1]}",
        "--mem-collector-freq=1",
        "--enable-threads",
        "--disable-logging",
        "--die-on-term",
    ]
    leak_web.run(command, port, 1.2, "uWSGI")
