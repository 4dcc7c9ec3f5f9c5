"""What people see of `sttctl memory`. Shapes only, as `views`. Needs rich."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sttd.ctl import human, views
from sttd.ctl.tables import Column, Fitted
from sttd.wire.memory import (
    SLOPE_FROM,
    ForecastView,
    HeapView,
    MemoryView,
    SlopeView,
    WorkerMemoryView,
)


def show(view: MemoryView) -> None:
    """The table of workers, the slope, and what the idle ones found in themselves."""
    out = views.console()
    out.print(_table(view.workers) if view.workers else Text("no workers", style="dim"))
    out.print()
    lines = Table.grid(padding=(0, 2))
    lines.add_row("soft line", _limit(view.soft_bytes))
    lines.add_row("ceiling", _limit(view.ceiling_bytes))
    lines.add_row("slope", slope(view.slope))
    lines.add_row("daemon", human.size(view.daemon_rss_bytes))
    out.print(lines)
    for worker in view.workers:
        out.print()
        out.print(Text(f"{worker.id}, {worker.state}", style="bold"))
        if worker.heap is not None:
            _heap(worker.heap, out)
        else:
            out.print(Text(f"  not asked: {worker.not_asked}", style="dim"))


def _table(workers: Iterable[WorkerMemoryView]) -> Fitted:
    numbers = ("jobs", "rss", "pss", "uss", "peak", "leak/job", "to soft", "to ceiling")
    table = Fitted(
        *(Column(title=name, right=name in numbers) for name in ("worker", "state", *numbers)),
        Column(title="next recycle", least=16),
        narrowing=("peak", "pss", "to soft", "uss", "jobs"),
    )
    for worker in workers:
        leak = worker.leak_per_job_bytes
        table.add(
            worker.id,
            views.state(worker.state),
            str(worker.jobs),
            human.size(worker.rss_bytes),
            human.size(worker.pss_bytes),
            human.size(worker.uss_bytes),
            human.size(worker.peak_rss_bytes),
            "" if leak is None else human.change(round(leak)),
            _room(worker.soft_room_bytes),
            _room(worker.ceiling_room_bytes),
            forecast(worker.forecast),
        )
    return table


def forecast(found: ForecastView | None) -> str:
    """`max_requests in about 12 jobs`, `max_age in 3 h`."""
    if found is None:
        return "never"
    if found.in_jobs == 0:
        return f"{found.reason} now"
    if found.reason != "max_age" and found.in_jobs is not None:
        return f"{found.reason} in about {human.count(found.in_jobs, 'job')}"
    return found.reason if found.in_s is None else f"{found.reason} in {human.span(found.in_s)}"


def slope(found: SlopeView) -> str:
    """What a job leaves behind, in words."""
    if found.jobs < SLOPE_FROM:
        return f"not known before {SLOPE_FROM} jobs are done; {found.jobs} so far"
    return (
        f"{human.change(round(found.per_job_bytes))} a job, "
        f"{human.change(round(found.per_audio_minute_bytes))} an audio minute, "
        f"by the latest {human.count(found.jobs, 'job')}"
    )


def _limit(size: int) -> str:
    return human.size(size) if size else "off"


def _room(room: int | None) -> Text:
    if room is None:
        return Text("off", style="dim")
    return Text(human.change(room).removeprefix("+"), style="bold red" if room < 0 else "")


def _heap(heap: HeapView, out: Console) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right")
    grid.add_column(style="dim", justify="right")
    grid.add_column(style="dim")
    if heap.change is not None:
        since = f"since the last look; {human.count(heap.change.jobs, 'job')} in between"
        grid.add_row("", "", "change", since)
    for name, now, field, note in _rows(heap):
        show = human.size if field.endswith("_bytes") else "{:,}".format
        differ = human.change if field.endswith("_bytes") else "{:+,}".format
        more = "" if heap.change is None else differ(getattr(heap.change, field))
        grid.add_row(f"  {name}", show(now), more, note)
    out.print(grid)
    _deep(heap, out)


def _rows(heap: HeapView) -> Iterator[tuple[str, int, str, str]]:
    """Name, value, the field of the change, and a note."""
    mapped, malloc = heap.mapped, heap.malloc
    yield "Python objects", heap.python_objects, "python_objects", "without the template's"
    yield "Python blocks", heap.python_blocks, "python_blocks", "of its allocator, all there are"
    if malloc is not None:
        arenas = f"in {human.count(malloc.arenas, 'arena')}"
        yield "malloc, used", malloc.used_bytes, "malloc_used_bytes", arenas
        yield "malloc, free", malloc.free_bytes, "malloc_free_bytes", ""
    largest = (f"{human.plain(one.name)} {human.size(one.rss_bytes)}" for one in mapped.libraries)
    yield "mapped files", mapped.files_bytes, "files_bytes", ", ".join(list(largest)[:3])
    among = "malloc's and Python's blocks are in it"
    yield "anonymous", mapped.anonymous_bytes, "anonymous_bytes", among


def _deep(heap: HeapView, out: Console) -> None:
    if heap.types:
        _types(heap, heap.change.types if heap.change else {}, out)
    if heap.handles is not None:
        changed = heap.change.handles if heap.change else {}
        text = f"  native handles: {_counts(heap.handles) or 'none'}"
        out.print(f"{text} (change: {_counts(changed, sign=True)})" if changed else text)


def _types(heap: HeapView, changed: Mapping[str, int], out: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    for _ in range(3):
        table.add_column(justify="right")
    for one in heap.types:
        more = f"{changed[one.type]:+,}" if one.type in changed else ""
        table.add_row(f"    {human.plain(one.type)}", f"{one.count:,}", human.size(one.bytes), more)
    out.print(Text("  Python objects by type, their own size, and change"))
    out.print(table)
    named = {one.type for one in heap.types}
    if rest := {name: more for name, more in changed.items() if name not in named}:
        out.print(f"    also grown: {_counts(rest, sign=True)}")


def _counts(counts: Mapping[str, int], *, sign: bool = False) -> str:
    return ", ".join(
        f"{human.plain(name)} {count:+,}" if sign else f"{human.plain(name)} {count:,}"
        for name, count in counts.items()
    )
