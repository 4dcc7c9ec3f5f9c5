"""Whether a job fits into a fresh worker at all, by what the latest jobs took. Decides only.

A wrong yes costs a worker, a wrong no fails a recording that might have passed: so a no needs
near certainty (`Growth.at_least`), and its text says by which figures and what to do.
"""

from __future__ import annotations

from sttd.core.growth import Growth

MIB = 1 << 20
TOO_LARGE = "too_large_for_ceiling"


def too_large(
    need: Growth, duration_s: float | None, *, fresh: int | None, ceiling: int
) -> str | None:
    """Why a worker of `fresh` bytes would cross the ceiling with such a job; None: it may fit."""
    if not ceiling or duration_s is None or fresh is None:
        return None
    takes = need.at_least(duration_s)
    if takes is None or fresh + takes <= ceiling:
        return None
    _, per_minute = need.line()
    return (
        f"{duration_s / 60:.0f} min of audio take at least {(fresh + takes) // MIB} MiB: "
        f"{fresh // MIB} MiB of a fresh worker and {takes // MIB} MiB for itself, by the latest "
        f"{len(need)} jobs (which took about {per_minute / MIB:.1f} MiB for each minute); "
        f"the ceiling is {ceiling // MIB} MiB: "
        "raise recycle.rss_ceiling or split the recording"
    )
