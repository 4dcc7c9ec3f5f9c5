"""What a drill adds to a process's memory, measured in an interpreter of its own.

Not in a forked child of pytest: what that has inherited is given back as it goes, and blurs the
figures by megabytes.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from typing import NamedTuple

from sttd.engines import TranscribeOptions
from sttd.engines.drill import Drill
from tests.support.audio import REPOSITORY, PcmAudio, silence
from tests.support.children import rss_bytes

MB = 1 << 20


class Growth(NamedTuple):
    """RSS against that before the job, in MB: at its highest between segments, and later."""

    during: float
    after: float
    trimmed: float


def growth(**extra: object) -> Growth:
    """What a job with these options adds to a fresh process."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.growth", json.dumps(extra)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return Growth(*json.loads(ran.stdout))


def measure(extra: dict[str, object]) -> Growth:
    """Run the job here."""
    libc = ctypes.CDLL(None)
    drill = Drill({})
    list(drill.transcribe(PcmAudio(silence(4)), TranscribeOptions()))  # what a first job costs
    gc.collect()
    libc.malloc_trim(0)
    before = rss_bytes()
    during = 0
    for _ in drill.transcribe(PcmAudio(silence(4)), TranscribeOptions(extra=extra)):
        during = max(during, rss_bytes() - before)
    after = rss_bytes() - before
    libc.malloc_trim(0)
    return Growth(during / MB, after / MB, (rss_bytes() - before) / MB)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(json.loads(sys.argv[1]))))
