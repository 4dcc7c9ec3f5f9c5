"""Final phrases straight from the SDK's C interface, whole.

The SDK's Python class for a result copies the text through a buffer of 2,048 bytes and decodes
what is left: a longer text cut inside a character raises there, and the event is gone. It also
asks for about a hundred properties of each result. The C functions behind it (the public
`speechapi_c_recognizer.h`, which the SDK for Go stands on) give the JSON alone and whole.

Callbacks are given a number, not an object: one that arrives late finds nobody, and touches no
freed memory.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

from azure.cognitiveservices.speech import PropertyId
from azure.cognitiveservices.speech.interop import _call_hr_fn, _Handle, _sdk_lib, _spx_handle
from azure.cognitiveservices.speech.properties import PropertyCollection

_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_listeners: dict[int, Callable[[str], None]] = {}
_numbers = itertools.count(1)


def listen(transcriber: Any, phrase: Callable[[str], None]) -> int:
    """Call `phrase` with the JSON of every final result, on the SDK's thread. Returns a ticket."""
    ticket = next(_numbers)
    _listeners[ticket] = phrase
    _call_hr_fn(
        transcriber._handle,  # noqa: SLF001  as the SDK's own Connection does
        _on_final,
        ctypes.c_void_p(ticket),
        fn=_sdk_lib.recognizer_recognized_set_callback,
    )
    return ticket


def unlisten(transcriber: Any, ticket: int) -> None:
    """Undo `listen`."""
    _sdk_lib.recognizer_recognized_set_callback(transcriber._handle, None, None)  # noqa: SLF001
    _listeners.pop(ticket, None)


def release(future: Any) -> None:
    """Let go of what an asynchronous operation that failed holds: its `get()` did not."""
    _sdk_lib.recognizer_async_handle_release(future._handle)  # noqa: SLF001  as its `get()` does


@_Callback  # type: ignore[untyped-decorator]  # ctypes gives it no type
def _on_final(_recognizer: int, event: int, ticket: int) -> None:
    _event = _Handle(
        _spx_handle(event),
        _sdk_lib.recognizer_event_handle_is_valid,
        _sdk_lib.recognizer_event_handle_release,
    )
    listener = _listeners.get(ticket)
    if listener is not None:
        listener(_json_of(_event))


def _json_of(event: Any) -> str:
    handle, bag = _spx_handle(0), _spx_handle(0)
    _call_hr_fn(
        event.get(), ctypes.byref(handle), fn=_sdk_lib.recognizer_recognition_event_get_result
    )
    result = _Handle(
        handle,
        _sdk_lib.recognizer_result_handle_is_valid,
        _sdk_lib.recognizer_result_handle_release,
    )
    _call_hr_fn(result.get(), ctypes.byref(bag), fn=_sdk_lib.result_get_property_bag)
    text: str = PropertyCollection(bag).get_property(PropertyId.SpeechServiceResponse_JsonResult)
    return text
