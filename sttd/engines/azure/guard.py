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
    module, name = _origin(unraisable)
    if not module.startswith(_MODULES):
        _before(unraisable)
        return
    line = f"{unraisable.exc_type.__name__} in {name}: {unraisable.exc_value}"
    for tell in _told.copy():
        tell(line)


def _origin(unraisable: Any) -> tuple[str, str]:
    """Module and name of the function that raised: the callback, as C called it.

    Python 3.13 names a ctypes callback in the message alone and gives no object; the traceback
    begins in it everywhere.
    """
    module = getattr(unraisable.object, "__module__", None)
    if module is not None:
        return str(module), str(getattr(unraisable.object, "__name__", "callback"))
    if unraisable.exc_traceback is None:
        return "", ""
    frame = unraisable.exc_traceback.tb_frame
    return str(frame.f_globals.get("__name__", "")), frame.f_code.co_name
