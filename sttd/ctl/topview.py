"""One frame of `sttctl top`: workers, their jobs, the queue, rates. Shapes only. Needs rich."""

from __future__ import annotations

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from sttd.ctl import human, views
from sttd.ctl.pace import Pace
from sttd.ctl.tables import Column, Fitted
from sttd.wire.views import JobView, StatusView, WorkerView

BAR = 20  # characters of a bar
KEYS = "↑↓ select   r recycle it   R recycle all   d drain or resume   q quit"


class Picture(msgspec.Struct, kw_only=True):
    """What a frame is made of."""

    status: StatusView
    jobs: dict[str, JobView]
    pace: Pace
    going: dict[str, tuple[float | None, float | None]] = {}  # speed and time left, by job
    soft_bytes: int = 0
    ceiling_bytes: int = 0
    selected: str | None = None  # a worker's id
    said: str = ""  # what the last key did
    live: bool = True  # keys work


def frame(picture: Picture) -> RenderableType:
    """The whole of it."""
    parts: list[RenderableType] = [_head(picture.status), _queue(picture), Text()]
    workers = picture.status.pool.workers
    parts.append(_workers(picture) if workers else Text("no workers", style="dim"))
    if picture.live:
        parts += [Text(), Text(picture.said or KEYS, style="yellow" if picture.said else "dim")]
    return Group(*parts)


def _head(status: StatusView) -> Text:
    daemon, engine = status.daemon, status.engine
    text = Text.assemble(
        ("sttd ", "bold"),
        views.state(daemon.state),
        f" for {human.span(daemon.uptime_s)}, {human.size(daemon.rss_bytes)};  ",
        (f"{human.plain(engine.name)} ", "bold"),
        views.state(engine.state),
    )
    for reason in (*daemon.reasons, engine.detail):
        if reason:
            text.append(f"\n  {human.plain(reason)}", style="red")
    return text


def _queue(picture: Picture) -> Text:
    queue, pace = picture.status.queue, picture.pace
    text = Text()
    for name in ("queued", "running", "deferred", "succeeded", "failed", "cancelled"):
        number = getattr(queue, name)
        text.append(f"{number} {name}  ", style=views.STYLES.get(name, "") if number else "dim")
    jobs, audio = pace.jobs_per_minute(), pace.audio_per_minute()
    if jobs is not None and audio is not None:
        text.append(f"\n{jobs:.1f} jobs/min, {audio:.1f} audio minutes/min")
    return text


def _workers(picture: Picture) -> Fitted:
    """Where there is little room bars are shorter, and columns go; the rest is kept whole."""
    table = Fitted(
        Column(title=""),
        Column(title="worker"),
        Column(title="state"),
        Column(title="jobs", right=True),
        Column(title="age", right=True),
        Column(title="memory"),
        Column(title="job", least=12),
        Column(title="progress"),
        Column(title="pace"),
        narrowing=("~pace", "~memory", "~progress", "age", "jobs", "pace", "progress", "job"),
        tells=False,
    )
    for worker in picture.status.pool.workers:
        job = picture.jobs.get(worker.job or "")
        chosen = worker.id == picture.selected
        table.add(
            "▶" if chosen else " ",
            Text(worker.id, style="bold reverse" if chosen else "bold"),
            views.state(worker.state),
            str(worker.requests),
            human.span(worker.age_s),
            _memory(worker, picture.soft_bytes, picture.ceiling_bytes),
            human.plain(job.source.name) if job else "",
            _progress(job) if job else "",
            _pace(*picture.going.get(job.job, (None, None))) if job else "",
        )
    return table


def _memory(worker: WorkerView, soft: int, ceiling: int) -> tuple[Text, Text]:
    whole = memory_bar(worker, soft, ceiling)
    if ceiling or soft:
        whole.append(f" of {human.size(ceiling or soft)}", style="dim")
    return whole, memory_bar(worker, soft, ceiling, BAR // 2)


def memory_bar(worker: WorkerView, soft: int, ceiling: int, cells: int = BAR) -> Text:
    """RSS against the ceiling (else the soft line, else its peak), with a tick at the soft line."""
    full = ceiling or soft or worker.peak_rss_bytes or 1
    filled = min(cells, round(worker.rss_bytes / full * cells))
    tick = min(cells - 1, int(soft / full * cells)) if soft and ceiling else None
    colour = "green"
    if soft and worker.rss_bytes > soft:
        colour = "yellow"
    if ceiling and worker.rss_bytes > 0.9 * ceiling:
        colour = "bold red"
    text = Text()
    for cell in range(cells):
        if cell == tick:
            text.append("┃", style="yellow")
        else:
            text.append("█" if cell < filled else "·", style=colour if cell < filled else "dim")
    text.append(f" {human.size(worker.rss_bytes)}")
    return text


def _pace(speed: float | None, left_s: float | None) -> tuple[str, str]:
    whole = human.pace(speed, left_s)
    return whole, whole.replace(" x real time", "x")


def _progress(job: JobView) -> tuple[Text, Text]:
    if not job.duration_s:
        return (Text(human.clock(job.progress_s)),) * 2
    share = min(1.0, job.progress_s / job.duration_s)
    filled = round(share * BAR / 2)
    text = Text("█" * filled, style="cyan")
    text.append("·" * (BAR // 2 - filled), style="dim")
    times = f"{human.clock(job.progress_s)}/{human.clock(job.duration_s)}"
    return text.append(f" {times}"), Text(times)
