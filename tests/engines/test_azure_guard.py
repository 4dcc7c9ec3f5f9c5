"""Which exceptions that nobody can catch are the SDK's, on every Python there is."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from sttd.engines.azure.guard import callbacks_guarded


def raised_in(module: str) -> BaseException:
    """What a function of `module` raised, with its traceback as ctypes would have it."""
    code = "def __canceled_callback():\n    raise UnicodeDecodeError('utf-8', b'', 0, 1, 'cut')"
    names: dict[str, Any] = {"__name__": module}
    exec(code, names)  # a function whose globals are another module's
    with pytest.raises(UnicodeDecodeError) as caught:
        names["__canceled_callback"]()
    own = next(entry for entry in caught.traceback if entry.frame.f_globals is names)
    return caught.value.with_traceback(own._rawentry)


def unraisable(error: BaseException, thing: object = None) -> Any:
    """What the interpreter hands to the hook. Python 3.13 has no `object` for a ctypes callback."""
    return types.SimpleNamespace(
        exc_type=type(error),
        exc_value=error,
        exc_traceback=error.__traceback__,
        err_msg=None,
        object=thing,
    )


def test_a_callback_without_its_object_is_known_by_where_it_raised() -> None:
    told: list[str] = []

    with callbacks_guarded(told.append):
        sys.unraisablehook(unraisable(raised_in("azure.cognitiveservices.speech.transcription")))

    assert len(told) == 1
    assert told[0].startswith("UnicodeDecodeError in __canceled_callback")


def test_what_others_raise_goes_to_the_hook_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[Any] = []
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", before.append)
    bare = types.SimpleNamespace(
        exc_type=ValueError, exc_value=ValueError(), exc_traceback=None, err_msg=None, object=None
    )

    with callbacks_guarded(told.append):
        sys.unraisablehook(unraisable(raised_in("somebody.else")))
        sys.unraisablehook(bare)

    assert not told
    assert len(before) == 2


def test_a_callback_named_by_its_object_is_known_by_it() -> None:
    told: list[str] = []

    def callback() -> None:
        """Of the SDK's, by its module."""

    callback.__module__ = "azure.cognitiveservices.speech.speech"

    with callbacks_guarded(told.append):
        sys.unraisablehook(unraisable(raised_in("anywhere"), callback))

    assert told == [told[0]]
    assert "in callback" in told[0]
