"""When a worker must leave: one policy, judged on every sample and after every job.

Decides only. It kills nobody, draws no random number (the jitter is handed in) and reads no clock.
"""

from __future__ import annotations

import msgspec

from sttd.core.units import Count, Positive, Seconds, Size

MIB = 1 << 20


class RecyclePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[recycle]` section; see etc/sttd.toml for what each line is for. 0 switches a rule off."""

    max_requests: Count = 50
    max_requests_jitter: Count = 10
    rss_soft: Size = 384 * MIB
    rss_ceiling: Size = 512 * MIB
    max_age: Seconds = 12 * 3600.0
    max_threads: Count = 200
    max_fds: Count = 1000
    sample_every: Seconds = 0.25
    stall_timeout: Seconds = 60.0
    job_timeout: Seconds = 0.0
    grace: Seconds = 10.0
    drain_timeout: Seconds = 15 * 60.0
