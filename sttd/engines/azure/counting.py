"""What the Speech SDK has alive in this process, by type, as it counts itself.

Its own table of handles, by the C functions "Memory tracking API's" of the public header
speechapi_c_diagnostics.h: a JSON list of `{"id", "name", "count"}`. Looks only; makes no object.
"""

from __future__ import annotations

import ctypes
from typing import Any

import msgspec
from azure.cognitiveservices.speech.interop import _sdk_lib


class _Kind(msgspec.Struct):
    name: str
    count: int


def alive() -> dict[str, int]:
    """Live native objects by the SDK's name for their type; those that there are none of left out.

    One ISpxAudioConfig is there from the SDK's import on: a default argument in its Python classes.
    Empty where this version of the SDK does not count.
    """
    look: Any = getattr(_sdk_lib, "diagnostics_get_handle_info", None)
    if look is None:
        return {}
    look.restype = ctypes.c_void_p  # not c_char_p: ctypes would copy it and lose the address
    address = look()
    if not address:
        return {}
    try:
        kinds = msgspec.json.decode(ctypes.string_at(address), type=list[_Kind])
    finally:
        _sdk_lib.diagnostics_free_string(ctypes.c_void_p(address))
    return {kind.name: kind.count for kind in kinds if kind.count}
