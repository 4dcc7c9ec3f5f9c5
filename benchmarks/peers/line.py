"""A peer's end of the line to the benchmark: a request a line on stdin, an answer on stdout.

What the peer and its workers print goes to standard error instead.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Any


class Line:
    """Made before anything else is started, so that nobody else writes to stdout."""

    def __init__(self) -> None:
        self._requests, self._answers = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)

    def serve(self, handlers: dict[str, Callable[..., Any]], *packages: str) -> None:
        """Answer until the benchmark closes it. The first answer is the packages' versions."""
        self._say({"answer": {name: version(name) for name in packages}})
        with os.fdopen(self._requests) as lines:
            for line in lines:
                request = json.loads(line)
                try:
                    reply = {"answer": handlers[request.pop("do")](**request)}
                except Exception:  # noqa: BLE001 - told to the benchmark
                    reply = {"error": traceback.format_exc()}
                self._say(reply)

    def _say(self, reply: dict[str, Any]) -> None:
        os.write(self._answers, json.dumps(reply).encode() + b"\n")
