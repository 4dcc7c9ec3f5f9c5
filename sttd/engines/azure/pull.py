"""The stream that the SDK pulls its audio from, by the SDK's C interface.

The SDK's own `PullAudioInputStream` is called three times for each piece of audio: once for the
audio, twice for properties that nobody sets (DataBuffer_TimeStamp, DataBuffer_UserId). Each call
makes and drops a Python thread state and waits for the interpreter's lock. The C functions behind
it (the public `speechapi_c_audio_stream.h`) ask for properties only where a callback is set.

That callback is given a number, not an object, and lives as long as the process. The SDK's thread
that reads is detached, and nobody waits for its end (tried with SDK 1.53): it may read when the
transcriber and the stream are gone. Here it finds nobody then and is told of the end; the SDK's own
class is freed memory by then, and the process dies.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable

from azure.cognitiveservices.speech import audio as sdk
from azure.cognitiveservices.speech.interop import _call_hr_fn, _sdk_lib, _spx_handle

# int read(void* context, uint8_t* buffer, uint32_t size): bytes given; 0 is the end
_Read = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
_readers: dict[int, Callable[[int], bytes]] = {}
_numbers = itertools.count(1)


class PullStream(sdk.AudioInputStream):  # type: ignore[misc]  # the SDK has no types
    """A stream of the SDK's default format, 16 kHz 16-bit mono, for one session; then `close()`.

    `read(size)` gives as many bytes at most, on the SDK's thread, and may wait; none are the end.
    An exception in it ends the stream, too; `guard` tells of it.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        kind, handle = sdk.AudioStreamFormat(), _spx_handle(0)
        _call_hr_fn(
            ctypes.byref(handle),
            kind._handle,  # noqa: SLF001  as the SDK's own streams do
            fn=_sdk_lib.audio_stream_create_pull_audio_input_stream,
        )
        super().__init__(handle)
        self._ticket = next(_numbers)
        _readers[self._ticket] = read
        _call_hr_fn(
            self._handle,
            ctypes.c_void_p(self._ticket),
            _on_read,
            None,  # nobody to be told that the stream is closed
            fn=_sdk_lib.pull_audio_input_stream_set_callbacks,
        )

    def close(self) -> None:
        """Whoever reads from now on is told of the end. Idempotent."""
        _readers.pop(self._ticket, None)


@_Read  # type: ignore[untyped-decorator]  # ctypes gives it no type
def _on_read(ticket: int, buffer: int, size: int) -> int:
    read = _readers.get(ticket)
    if read is None:
        return 0
    part = read(size)
    count = len(part)
    if count > size:
        raise ValueError(f"{count} bytes for a buffer of {size}")
    ctypes.memmove(buffer, part, count)
    return count
