"""The portion of the settings that each part of the daemon is given. Pure."""

from __future__ import annotations

import os
from pathlib import Path

from sttd.config import Settings
from sttd.core.health import UNLIMITED
from sttd.core.supervision import Policies
from sttd.supervisor.arrivals import ArrivalSettings
from sttd.supervisor.inbox import InboxSettings


def policies(settings: Settings) -> Policies:
    """What the core needs of the configuration."""
    engine = settings.engine
    sessions = engine.options_for(engine.name).get("max_sessions") if engine.name == "azure" else 0
    return Policies(
        recycle=settings.recycle,
        retry=settings.retry,
        workers=workers_of(settings, int(str(sessions or 0))),
        standby=settings.pool.standby,
        max_sessions=int(str(sessions)) if sessions else UNLIMITED,
        max_per_memory=settings.pool.max_per_memory,
        resumes=settings.resumes,
    )


def workers_of(settings: Settings, sessions: int) -> int:
    """`pool.workers`; "auto": by quota for a remote engine, by cores for a local one."""
    if settings.pool.workers != "auto":
        return settings.pool.workers
    return sessions or len(os.sched_getaffinity(0))


def inbox_settings(settings: Settings) -> InboxSettings:
    """The inbox's part."""
    inbox = settings.inbox
    return InboxSettings(
        path=settings.inbox_dir,
        extensions=frozenset(inbox.extensions),
        settle_s=inbox.settle,
        recursive=inbox.recursive,
        empty_grace_s=inbox.empty_grace,
    )


def arrival_settings(settings: Settings) -> ArrivalSettings:
    """The part of the arrivals."""
    return ArrivalSettings(
        max_file_size=settings.limits.max_file_size,
        min_free_disk=settings.limits.min_free_disk,
        max_queued=settings.limits.max_queued,
        rescan_s=settings.inbox.rescan,
        allow_paths=tuple(Path(path) for path in settings.control.allow_paths),
    )
