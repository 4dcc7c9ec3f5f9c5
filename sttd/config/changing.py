"""What a reload changes, and which of it waits for a restart. Compares values; applies nothing."""

from __future__ import annotations

import msgspec

from sttd.config.problems import is_secretive
from sttd.config.schema import flatten
from sttd.config.sections import Settings

# What is opened or bound once, at the start.
_AT_START = ("pool.cgroups", "state_dir", "inbox.path", "outbox.path", "metrics.listen")
_OF_TEMPLATES = ("pool.allocator", "pool.malloc_arena_max", "recycle.trim_threshold")
_AT_START_TABLES = ("control.",)


class Change(msgspec.Struct, frozen=True):
    """A key whose effective value differs; None where the key is absent on one side."""

    key: str
    old: object
    new: object
    needs_restart: bool

    @property
    def renews_workers(self) -> bool:
        """Whether it takes a new template, and so new workers, to be in force."""
        return self.key.startswith("engine.") or self.key in _OF_TEMPLATES

    @property
    def is_secretive(self) -> bool:
        """Whether its values must not be shown."""
        return is_secretive(self.key)


def changes(old: Settings, new: Settings) -> list[Change]:
    """Every key whose effective value differs, in the order of the sections."""
    before, after = flatten(old), flatten(new)
    return [
        Change(key, before.get(key), after.get(key), needs_restart(key))
        for key in {**before, **after}
        if before.get(key) != after.get(key) or (key in before) != (key in after)
    ]


def needs_restart(key: str) -> bool:
    """Whether a new value takes effect at the next start only."""
    return key in _AT_START or key.startswith(_AT_START_TABLES)
