"""One beat for all that looks now and then, so that the loop wakes once for several of them.

To wake up costs more than most of what is done then. Pure: the time is handed in.
"""

from __future__ import annotations

import math

_SLACK = 1e-4  # of a beat: a timer that fires a moment early has had its beat


def next_beat(now: float, every: float) -> float:
    """The first whole multiple of `every` after `now`; seconds of the loop's clock."""
    return (math.floor(now / every + _SLACK) + 1) * every
