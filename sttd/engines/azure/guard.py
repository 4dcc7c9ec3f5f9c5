"""Notices exceptions inside the SDK's callbacks, which Python would only print.

A process-wide `sys.unraisablehook`, in force while sessions live. It cannot tell which session an
exception belongs to, so it tells all; a worker has one. Everything else goes to the hook before.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

_MODULES = ("azure.cognitiveservices.speech", "sttd.engines.azure")

_lock = threading.Lock()
_told: list[Callable[[str], None]] = []
_before: Callable[[Any], Any] = sys.__unraisablehook__


@contextlib.contextmanager
def callbacks_guarded(tell: Callable[[str], None]) -> Iterator[None]:
    """Call `tell` with one line for each exception that an SDK callback raises meanwhile."""
    global _before
    with _lock:
        if not _told:
            _before, sys.unraisablehook = sys.unraisablehook, _hook
        _told.append(tell)
    try:
        yield
    finally:
        with _lock:
            _told.remove(tell)
            if not _told and sys.unraisablehook is _hook:
                sys.unraisablehook = _before


def _hook(unraisable: Any) -> None:
    if not str(getattr(unraisable.object, "__module__", "")).startswith(_MODULES):
        _before(unraisable)
        return
    name = getattr(unraisable.object, "__name__", "callback")
    line = f"{unraisable.exc_type.__name__} in {name}: {unraisable.exc_value}"
    for tell in _told.copy():
        tell(line)
