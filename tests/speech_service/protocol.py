"""The Speech service's websocket messages, as bytes and back (Universal Speech Protocol, "USP").

Framing after the public JavaScript SDK (`common.speech/SpeechConnectionMessage.Internal.ts`) and
observation of the native one: text messages are headers, an empty line and a JSON body; binary
messages begin with the headers' length as two bytes, big-endian. This module knows no sockets.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import struct
from typing import Any

TICKS_PER_SECOND = 10_000_000  # offsets and durations are in units of 100 ns
BYTES_PER_SECOND = 32_000  # 16 kHz, 16 bit, mono
RIFF_HEADER_BYTES = 44


@dataclasses.dataclass(frozen=True)
class Message:
    """One message of the client's: lower-case header names, and the body."""

    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """What the message is: speech.config, speech.context, audio, telemetry."""
        return self.headers.get("path", "").lower()

    @property
    def request_id(self) -> str:
        """The turn this belongs to: 32 hexadecimal digits, empty for speech.config."""
        return self.headers.get("x-requestid", "")

    def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        value: dict[str, Any] = json.loads(self.body)
        return value


def parse(frame: str | bytes) -> Message:
    """Take a frame apart. Raises ValueError for a frame without headers."""
    if isinstance(frame, str):
        head, separator, body = frame.partition("\r\n\r\n")
        if not separator:
            raise ValueError("no empty line after the headers")
        return Message(_headers(head), body.encode())
    (length,) = struct.unpack_from(">H", frame)
    return Message(_headers(frame[2 : 2 + length].decode()), frame[2 + length :])


def _headers(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.split("\r\n") if line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def compose(path: str, request_id: str, body: object) -> str:
    """A text message of the service's."""
    now = dt.datetime.now(tz=dt.UTC).isoformat()
    return (
        f"X-RequestId:{request_id}\r\nContent-Type:application/json; charset=utf-8\r\n"
        f"Path:{path}\r\nX-Timestamp:{now}\r\n\r\n{json.dumps(body, ensure_ascii=False)}"
    )


def ticks(pcm_bytes: int) -> int:
    """The length of so many bytes of 16 kHz mono PCM, in units of 100 ns."""
    return pcm_bytes * TICKS_PER_SECOND // BYTES_PER_SECOND
