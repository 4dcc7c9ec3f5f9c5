"""Which memory allocator an engine's processes get: the library to preload, and where it lies.

Looks for files and makes an environment out of another; loads nothing, starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sttd.config.sections import Pool

JEMALLOC = "libjemalloc.so.2"  # Debian: libjemalloc2, Fedora: jemalloc; the soname of 5.x
_ROOTS = (Path("/usr/local/lib"), Path("/usr/lib64"), Path("/usr/lib"), Path("/lib"))
# As glibc's heap is trimmed after a job, so is jemalloc's (linux.malloc_trim); in between it
# keeps what is free for a second. A background thread is out of the question: templates fork.
_JEMALLOC_CONF = "background_thread:false,dirty_decay_ms:1000,muzzy_decay_ms:0"


class MissingAllocatorError(Exception):
    """The library is not there; the message says what to install."""


def preload(allocator: str) -> str:
    """The path to put into LD_PRELOAD, "" for the system's own. Raises MissingAllocatorError."""
    if allocator == "system":
        return ""
    if allocator != "jemalloc":
        if not Path(allocator).is_file():
            raise MissingAllocatorError(f"there is no {allocator}")
        return allocator
    found = next((path for path in _candidates(JEMALLOC) if path.is_file()), None)
    if found is None:
        raise MissingAllocatorError(f"{JEMALLOC} is not installed (Debian: libjemalloc2)")
    return str(found)


def environment(base: Mapping[str, str], pool: Pool, tell: Callable[..., object]) -> dict[str, str]:
    """The environment of an engine's template, which its workers inherit.

    What the daemon's own environment says of the allocator holds: it was said for this machine.
    A library that is missing is told as an event (name and fields) and done without.
    """
    made = dict(base)
    try:
        library = preload(pool.allocator)
    except MissingAllocatorError as error:
        message = f"pool.allocator: {error}: the system's allocator is used"
        tell("config.warning", where="", key="pool.allocator", message=message)
        library = ""
    if library:
        made["LD_PRELOAD"] = " ".join(filter(None, (library, base.get("LD_PRELOAD", ""))))
        if pool.allocator == "jemalloc":
            made.setdefault("MALLOC_CONF", _JEMALLOC_CONF)
    elif pool.malloc_arena_max:
        made.setdefault("MALLOC_ARENA_MAX", str(pool.malloc_arena_max))  # mallopt(3)
    return made


def _candidates(name: str) -> Iterator[Path]:
    for root in _ROOTS:
        yield root / name
        yield from sorted(root.glob(f"*-linux-gnu*/{name}"))  # Debian's multiarch folders
