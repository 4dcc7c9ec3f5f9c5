"""The shapes that tell of memory: what a worker finds in itself, and what `sttctl memory` shows.

Values only; used by the workers' messages and by the replies on the control socket alike.
"""

from __future__ import annotations

import msgspec


class TypeView(msgspec.Struct, frozen=True):
    """Python objects of one type; `bytes` is their own size, without what they refer to."""

    type: str
    count: int
    bytes: int


class LibraryView(msgspec.Struct, frozen=True):
    """A mapped file and how much of it is resident, shared or not."""

    name: str
    rss_bytes: int


class MallocView(msgspec.Struct, frozen=True, kw_only=True):
    """glibc's heap by malloc_info(3): all arenas and what was mapped for large blocks."""

    arenas: int
    total_bytes: int  # taken from the kernel
    used_bytes: int
    free_bytes: int  # kept for later; malloc_trim gives some of it back


class MappedView(msgspec.Struct, frozen=True, kw_only=True):
    """Resident pages by what is behind them, from /proc/self/smaps."""

    files_bytes: int  # libraries and other files
    anonymous_bytes: int  # heaps, Python's arenas, stacks
    libraries: tuple[LibraryView, ...]  # the ten largest


class HeapChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is different since the worker was last asked. Types that did not change are left out."""

    jobs: int  # done in between
    python_objects: int
    python_blocks: int
    malloc_used_bytes: int
    malloc_free_bytes: int
    files_bytes: int
    anonymous_bytes: int
    types: dict[str, int] = {}  # only when both times were deep; the fifteen that grew most
    handles: dict[str, int] = {}


class HeapView(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker found in itself."""

    jobs: int  # done so far
    python_objects: int  # that the collector tracks; those of the template not counted
    python_blocks: int  # small and large blocks of Python's allocator
    malloc: MallocView | None  # None where the C library cannot tell
    mapped: MappedView
    types: tuple[TypeView, ...] = ()  # deep alone: the fifteen most numerous
    handles: dict[str, int] | None = None  # deep alone: the engine's live native objects
    change: HeapChange | None = None  # None the first time


SLOPE_FROM = 5  # jobs: fewer give no slope


class SlopeView(msgspec.Struct, frozen=True, kw_only=True):
    """What a job leaves behind, by the latest jobs of all workers: a robust line through them."""

    jobs: int  # that it is drawn from; both slopes are 0 below SLOPE_FROM
    per_job_bytes: float
    per_audio_minute_bytes: float
    next_job_bytes: int  # expected of a job of the usual length


class ForecastView(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that will end this worker; where one of the two is not known it is None."""

    reason: str  # a key of `recycles`
    in_jobs: int | None  # 0: after the present job, or now
    in_s: float | None


class WorkerMemoryView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's memory. `heap` is None for workers that were not asked; `not_asked` says why."""

    id: str
    pid: int
    state: str
    jobs: int
    rss_bytes: int
    peak_rss_bytes: int
    pss_bytes: int
    uss_bytes: int
    leak_per_job_bytes: float | None  # of this worker, since it was ready
    soft_room_bytes: int | None  # None: the rule is off
    ceiling_room_bytes: int | None
    forecast: ForecastView | None
    heap: HeapView | None = None
    not_asked: str = ""


class MemoryView(msgspec.Struct, frozen=True, kw_only=True):
    """`memory --json`. Lines are 0 where the rule is off."""

    soft_bytes: int
    ceiling_bytes: int
    daemon_rss_bytes: int
    slope: SlopeView
    workers: tuple[WorkerMemoryView, ...] = ()


class CurveView(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's RSS over time; points are (seconds before `now`, at most 0, and bytes)."""

    worker: str
    ended: str | None = None  # the reason, a key of `recycles`; None: it lives
    killed: bool = False
    points: tuple[tuple[float, int], ...] = ()


class CurvesView(msgspec.Struct, frozen=True, kw_only=True):
    """The reply to `memory_history`: the lives that are remembered, the oldest first."""

    now: str
    soft_bytes: int
    ceiling_bytes: int
    curves: tuple[CurveView, ...] = ()
