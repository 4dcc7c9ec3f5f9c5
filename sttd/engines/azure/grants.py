"""What opens the service's door: a key, a token, or nothing; and when it must be renewed.

Values only. Where grants come from is in `sources`; who fetches tokens is in `identity`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Literal

import msgspec

RENEW_BEFORE_S = 300.0  # seconds before a token's expiry: issue of tokens takes seconds, not hours


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A secret for one session. `repr` never shows it."""

    kind: Literal["key", "token", "none"]
    value: str = ""
    issued_at: float = 0.0  # Unix seconds
    expires_at: float | None = None  # None: does not expire, or nobody knows

    def __repr__(self) -> str:
        return f"Grant({self.kind}, expires_at={self.expires_at})"

    @property
    def fingerprint(self) -> str:
        """Tells grants apart without giving them away."""
        return hashlib.sha256(self.value.encode()).hexdigest()

    @property
    def renew_at(self) -> float:
        """When to ask for another: five minutes before expiry, half-way through a short life."""
        if self.expires_at is None:
            return float("inf")
        return self.expires_at - min(RENEW_BEFORE_S, (self.expires_at - self.issued_at) / 2)


def expiry_of(token: str) -> float | None:
    """When a token expires, in Unix seconds, if it is a JSON web token that says so (RFC 7519)."""
    parts = token.rpartition("#")[2].split(".")
    if len(parts) != 3:
        return None
    try:
        body = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(body, type=_Claims).exp
    except (binascii.Error, ValueError):
        return None


class _Claims(msgspec.Struct):
    exp: float | None = None
