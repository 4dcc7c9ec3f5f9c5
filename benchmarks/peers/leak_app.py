"""The leaking job as a WSGI application, for all web servers; workers have the SDK loaded.

A server that forks its workers from a process that loaded the application has it before that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.peers import work

work.load_sdk()


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Do the job that the body describes; an empty one is a question whether you are there."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if body:
        work.leak(**json.loads(body))
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
