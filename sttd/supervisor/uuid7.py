"""Job identities: UUIDv7 (RFC 9562), in order of creation within one process.

An identity is never derived from a path: the same name comes again and again.
"""

from __future__ import annotations

import os
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0  # milliseconds and a 12-bit fraction, as one number


def new_id() -> str:
    """A fresh UUIDv7 as text; greater than every one made before in this process.

    The 12 bits behind the milliseconds carry the fraction of the millisecond (RFC 9562, 6.2,
    method 3) and count on when the clock stands still or steps back; 62 bits are random.
    """
    global _last  # noqa: PLW0603 - one sequence per process is the point
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    with _lock:
        _last = max((milliseconds << 12) | (rest * 4096 // 1_000_000), _last + 1)
        stamp = _last
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return str(uuid.UUID(int=value))
