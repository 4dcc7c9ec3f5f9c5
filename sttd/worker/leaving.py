"""SIGTERM in a worker: the job is abandoned, the engine releases everything, the process ends.

For an engine it is what closing its generator is, GeneratorExit, but that it comes wherever its
code is at the time: an engine that is asked to leave may be far from its next `yield`.
"""

from __future__ import annotations

import signal
from types import FrameType


class Leaving(GeneratorExit):
    """SIGTERM came: unwind, let the engine release everything, end."""


class _Asked:
    """Whether it came: an engine may have swallowed the exception, as generators may."""

    asked = False


def heed() -> None:
    """From now on SIGTERM raises Leaving, once; then comes SIGKILL."""
    signal.signal(signal.SIGTERM, _leave)


def insist() -> None:
    """Raise Leaving again if it was raised: what an engine made of it is not the job's result."""
    if _Asked.asked:
        raise Leaving


def _leave(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _Asked.asked = True
    raise Leaving
