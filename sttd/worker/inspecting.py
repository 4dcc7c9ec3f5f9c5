"""What is in a worker's memory: Python's objects, malloc's arenas, mapped files, engine handles.

Looks when asked, between jobs; collects nothing, gives nothing back (that is `tidy`), judges
nothing. It remembers the counts of its last look, so that the next can say what jobs have left.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from sttd import linux
from sttd.engines import Engine
from sttd.wire.memory import (
    HeapChange,
    HeapView,
    LibraryView,
    MallocView,
    MappedView,
    TypeView,
)

TOP_TYPES = 15
TOP_LIBRARIES = 10

_ARENA = re.compile(rb"<heap nr=")
_SIZED = re.compile(rb'<(total|system) type="(\w+)"(?: count="\d+")? size="(\d+)"/>')
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)")


class Inspector:
    """Looks at this process. `jobs` is counted up by whoever runs them."""

    def __init__(self, engine: Engine) -> None:
        self.jobs = 0
        self._engine = engine
        self._last: tuple[HeapView, Counter[str] | None] | None = None

    def look(self, *, deep: bool) -> HeapView:
        """What there is now, and what has changed since the last look."""
        types, sizes = _types() if deep else (None, Counter[str]())
        view = HeapView(
            jobs=self.jobs,
            python_objects=len(gc.get_objects()),
            python_blocks=sys.getallocatedblocks(),
            malloc=malloc_view(linux.malloc_info()),
            mapped=_mapped(),
            types=tuple(
                TypeView(name, count, sizes[name])
                for name, count in (types or Counter()).most_common(TOP_TYPES)
            ),
            handles=self._handles() if deep else None,
        )
        last, self._last = self._last, (view, types)
        if last is None:
            return view
        return msgspec.structs.replace(view, change=change(*last, view, types))

    def _handles(self) -> dict[str, int] | None:
        count = getattr(self._engine, "handles", None)
        if count is None:
            return None
        found: Mapping[str, int] = count()
        return {str(name): int(number) for name, number in found.items()}


def change(
    before: HeapView,
    types_before: Counter[str] | None,
    after: HeapView,
    types_after: Counter[str] | None,
) -> HeapChange:
    """The difference of two looks; of types and handles only what both looks have."""
    used = [view.malloc.used_bytes if view.malloc else 0 for view in (before, after)]
    free = [view.malloc.free_bytes if view.malloc else 0 for view in (before, after)]
    types: dict[str, int] = {}
    if types_before is not None and types_after is not None:
        grown = Counter(types_after)
        grown.subtract(types_before)
        types = {name: more for name, more in grown.most_common(TOP_TYPES) if more > 0}
    handles: dict[str, int] = {}
    if before.handles is not None and after.handles is not None:
        names = {**before.handles, **after.handles}
        handles = {n: after.handles.get(n, 0) - before.handles.get(n, 0) for n in names}
    return HeapChange(
        jobs=after.jobs - before.jobs,
        python_objects=after.python_objects - before.python_objects,
        python_blocks=after.python_blocks - before.python_blocks,
        malloc_used_bytes=used[1] - used[0],
        malloc_free_bytes=free[1] - free[0],
        files_bytes=after.mapped.files_bytes - before.mapped.files_bytes,
        anonymous_bytes=after.mapped.anonymous_bytes - before.mapped.anonymous_bytes,
        types=types,
        handles={name: more for name, more in handles.items() if more},
    )


def malloc_view(xml: bytes) -> MallocView | None:
    """The sums of a malloc_info(3) document; None for one that is none.

    After the arenas come the sums over all of them: free blocks in fast bins (`fast`) and
    elsewhere, the top included (`rest`), blocks mapped one by one (`mmap`), and what the arenas
    hold of the kernel (`system current`). glibc, malloc/malloc.c, __malloc_info.
    """
    sums = {
        (kind, name): int(size)
        for kind, name, size in _SIZED.findall(xml.rpartition(b"</heap>")[2])
    }
    if (b"system", b"current") not in sums:
        return None
    free = sums.get((b"total", b"fast"), 0) + sums.get((b"total", b"rest"), 0)
    total = sums[b"system", b"current"] + sums.get((b"total", b"mmap"), 0)
    return MallocView(
        arenas=len(_ARENA.findall(xml)),
        total_bytes=total,
        used_bytes=max(0, total - free),
        free_bytes=free,
    )


def mapped_view(smaps: Iterable[str]) -> MappedView:
    """Resident bytes by what is behind them, from the lines of /proc/PID/smaps."""
    files: Counter[str] = Counter()
    anonymous, path = 0, ""
    for line in smaps:
        if line.startswith("Rss:"):
            size = int(line.split()[1]) * 1024
            if path.startswith("/"):
                files[os.path.basename(path.removesuffix(" (deleted)"))] += size
            else:
                anonymous += size
        elif mapping := _MAPPING.match(line):
            path = mapping[1].strip()
    largest = files.most_common(TOP_LIBRARIES)
    return MappedView(
        files_bytes=files.total(),
        anonymous_bytes=anonymous,
        libraries=tuple(LibraryView(name, size) for name, size in largest if size),
    )


def _mapped() -> MappedView:
    with open("/proc/self/smaps", encoding="utf-8", errors="backslashreplace") as file:
        return mapped_view(file)


def _types() -> tuple[Counter[str], Counter[str]]:
    """Objects by type: how many, and their own bytes. Those frozen in the template are not seen."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for one in gc.get_objects():
        kind = type(one)
        name = kind.__qualname__
        if kind.__module__ != "builtins":
            name = f"{kind.__module__}.{name}"
        counts[name] += 1
        try:
            sizes[name] += sys.getsizeof(one)
        except Exception:  # noqa: BLE001, S112 - __sizeof__ may be anybody's code
            continue
    return counts, sizes
