"""What workers and templates are told to do, out of settings and a job. Pure shaping."""

from __future__ import annotations

import os
from pathlib import Path

from sttd.config import Settings
from sttd.core.jobs import Job
from sttd.supervisor import names
from sttd.supervisor.records import printable
from sttd.wire import messages as say

LONGEST_STEM = 200  # bytes; a layout's suffix fits behind it


def run(settings: Settings, job: Job, generation: int, spool: Path) -> say.Run:
    """The order to transcribe one job whose files lie in `spool`."""
    return say.Run(
        generation=generation,
        job=job.id,
        attempt=job.attempt,
        token=job.token,
        name=job.name,
        spool=str(spool),
        staging=str(settings.outbox_dir / ".tmp" / f"{job.id}.{job.attempt}"),
        stem=_stem(job.out_name),
        formats=tuple(settings.outbox.formats),
        options=job.options,
        limits=say.DecodeLimits(
            max_duration_s=settings.limits.max_duration,
            max_channels=settings.limits.max_channels,
        ),
        resume=settings.resumes,
    )


def _stem(out_name: str) -> str:
    """What the outputs are called in the staging folder, where any text does, and only text.

    They get their own names, which may be no UTF-8, when they are published.
    """
    return names.fit(printable(names.split(out_name)[1]), LONGEST_STEM)


def load_engine(settings: Settings) -> say.Load:
    """The order to load the engine."""
    engine = settings.engine
    return say.Load(
        role="engine",
        supervisor=os.getpid(),
        engine=engine.name,
        options=dict(engine.options_for(engine.name)),
        trim_threshold=settings.recycle.trim_threshold,
    )
