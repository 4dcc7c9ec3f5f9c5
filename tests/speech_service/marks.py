"""Synthetic audio that tells where it belongs, so that a transcript proves what was heard."""

from __future__ import annotations

MARK_BYTES = 3200  # 100 ms
MARK_PERIOD = 32_000  # marks count 1..32000 and begin again: 53 minutes


def marked_pcm(seconds: float, start_s: float = 0.0) -> bytes:
    """PCM whose samples tell where they belong: every 100 ms carries its number."""
    first, count = round(start_s * 10), round(seconds * 10)
    numbers = (n % MARK_PERIOD + 1 for n in range(first, first + count))
    return b"".join(number.to_bytes(2, "little") * (MARK_BYTES // 2) for number in numbers)
