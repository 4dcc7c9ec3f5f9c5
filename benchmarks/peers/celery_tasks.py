"""The tasks of the Celery contestant; the environment says where its broker is."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.peers import work

work.load_sdk()  # once in the parent: Celery forks its workers from there

REDIS = os.environ.get("STTD_BENCHMARK_REDIS", "")
app = Celery(
    "celery_tasks",
    broker=f"redis+socket://{REDIS}",
    backend=f"redis+socket://{REDIS}",
)


@app.task
def burn(milliseconds: float) -> int:
    """See `work`."""
    return work.burn_ms(milliseconds)


@app.task
def spike(megabytes: float) -> int:
    """See `work`."""
    return work.spike(megabytes, 0.05)


@app.task
def rest(seconds: float) -> int:
    """See `work`."""
    return work.rest(seconds)
