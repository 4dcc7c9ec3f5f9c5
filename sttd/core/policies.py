"""Everything the core needs of the configuration, in one value."""

from __future__ import annotations

import msgspec

from sttd.core.health import UNLIMITED
from sttd.core.recycling import RecyclePolicy
from sttd.core.retry import RetryPolicy


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the core needs of the configuration."""

    recycle: RecyclePolicy
    retry: RetryPolicy
    workers: int
    standby: int
    max_sessions: int = UNLIMITED
    max_per_memory: bool = True
    resumes: bool = True  # a later attempt goes on where the last one stopped
