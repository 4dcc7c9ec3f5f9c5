"""What every request is made of: the limits of the protocol, the types of fields, the base.

Values only. The requests are in `requests` and `job_requests`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

PROTOCOL = 1  # the `v` of every request
MAX_BODY = 256 * 1024  # bytes of JSON in one request
CHUNK = 256 * 1024  # bytes of a recording or an output in one binary frame
MAX_CORRELATION = 32  # bytes
MAX_WAIT_S = 60.0  # one Wait is held no longer; the client asks again
MAX_LISTED = 1000  # jobs or events in one reply; ask again with `before` or `since`

JobId = Annotated[str, Meta(min_length=1, max_length=64)]
WorkerId = Annotated[str, Meta(min_length=1, max_length=32)]
UploadId = Annotated[str, Meta(min_length=1, max_length=64)]
# Printable, one line; a key of the client's own choice.
Key = Annotated[str, Meta(min_length=1, max_length=200)]
# A name or path beneath something; the kernel's PATH_MAX.
Name = Annotated[str, Meta(min_length=1, max_length=4096)]
Priority = Annotated[int, Meta(ge=-1000, le=1000)]
Offset = Annotated[int, Meta(ge=0, lt=1 << 53)]
WaitS = Annotated[float, Meta(ge=0, le=MAX_WAIT_S)]
Limit = Annotated[int, Meta(ge=1, le=MAX_LISTED)]
# UTC, 2026-01-31T12:00:00.000Z
Instant = Annotated[str, Meta(min_length=20, max_length=30)]


class Asked(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="verb",
):
    """What every request has; `v` is put in front by `encode` and taken off by `decode`."""

    v: int = PROTOCOL
