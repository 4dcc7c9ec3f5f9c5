"""Recordings made on the spot."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path


def tone(path: Path, seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> Path:
    """A sine at 440 Hz as a WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = int(seconds * rate)
    second = [int(8000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(rate)]
    samples = (second * (frames // rate + 1))[:frames]
    data = b"".join(struct.pack("<h", s) * channels for s in samples)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(data)
    return path
