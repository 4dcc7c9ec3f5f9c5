"""What people see: tables and lines, coloured on a terminal, plain in a pipe. Needs rich.

Shapes only: takes views, asks nobody. Colours follow NO_COLOR and the terminal, by rich's rules.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sttd.ctl import human, timeline
from sttd.ctl.tables import Column, Fitted
from sttd.wire import views

PIPE_WIDTH = 1000  # columns: nothing is cut or wrapped for a program that reads along

STYLES = {
    "running": "cyan",
    "busy": "cyan",
    "succeeded": "green",
    "ok": "green",
    "idle": "green",
    "failed": "bold red",
    "degraded": "bold red",
    "unauthorized": "bold red",
    "unavailable": "bold red",
    "throttled": "yellow",
    "deferred": "yellow",
    "draining": "yellow",
    "drained": "yellow",
    "starting": "yellow",
    "retiring": "yellow",
    "cancelled": "dim",
    "queued": "blue",
    "standby": "dim",
}


class _Tables(Console):
    """rich ends the process with 1 when nobody reads on; that is the entry's to decide."""

    def on_broken_pipe(self) -> None:
        """Called where the error is being handled."""
        raise BrokenPipeError


def console() -> Console:
    """Where tables go."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    # names and messages come from outside: no markup, no emoji codes
    return _Tables(
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not sys.stdout.isatty(),
    )


def state(name: str) -> Text:
    """A state in its colour."""
    style = "green" if name == "up" else STYLES.get(name, "")
    return Text(name, style=style)


def status(view: views.StatusView) -> None:
    """`sttctl status`."""
    out = console()
    daemon = view.daemon
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    grid.add_row("sttd", _daemon(daemon))
    for reason in daemon.reasons:
        grid.add_row("", Text(human.plain(reason), style="red"))
    engine = Text.assemble(view.engine.name, " is ", state(view.engine.state))
    if view.engine.detail:
        engine.append(f": {human.plain(view.engine.detail)}")
    grid.add_row("engine", engine)
    grid.add_row("queue", _queue(view.queue))
    grid.add_row("recycles", _recycles(view.recycles))
    grid.add_row("memory", _memory(view.pool))
    grid.add_row("sandbox", _sandbox(view.sandbox))
    out.print(grid)
    out.print()
    workers(view.pool.workers, out)


def _daemon(daemon: views.DaemonView) -> Text:
    return Text.assemble(
        state(daemon.state),
        f" for {human.span(daemon.uptime_s)}, pid {daemon.pid}, "
        f"{human.size(daemon.rss_bytes)}, version {daemon.version}",
    )


def _queue(queue: views.QueueView) -> Text:
    text = Text()
    for name in ("queued", "running", "deferred", "succeeded", "failed", "cancelled"):
        number = getattr(queue, name)
        text.append(", " if text else "")
        text.append(f"{number} {name}", style=STYLES.get(name, "") if number else "dim")
    if queue.queued:
        text.append(f"; the oldest waits for {human.span(queue.oldest_queued_s)}")
    return text


def _recycles(recycles: views.RecyclesView) -> Text:
    counts = {name: getattr(recycles, name) for name in recycles.__struct_fields__}
    named = [f"{number} {name}" for name, number in counts.items() if number]
    return Text(", ".join(named)) if named else Text("none", style="dim")


def _memory(pool: views.PoolView) -> str:
    how = {"cgroup": "a control group for each worker", "polling": "workers are polled"}
    return f"{how[pool.memory_control]} ({human.plain(pool.memory_control_detail)})"


def _sandbox(box: views.SandboxView) -> Text:
    if box.files == "unknown":
        return Text("not yet tried", style="dim")
    landlock = f"landlock {box.landlock}" if box.landlock else "no landlock"
    seccomp = "seccomp" if box.seccomp else "no seccomp"
    text = Text(f"decoders behind limits, {landlock}, {seccomp}: ")
    for name, state_of in (("files", box.files), ("network", box.network)):
        text.append(f"{name} {state_of}", style="green" if state_of == "closed" else "yellow")
        text.append(", " if name == "files" else "")
    return text


def workers(found: Iterable[views.WorkerView], out: Console | None = None) -> None:
    """`sttctl workers`."""
    out = out or console()
    numbers = ("pid", "jobs", "rss", "peak", "pss", "threads", "fds", "age")
    table = Fitted(
        Column(title="worker"),
        Column(title="state"),
        *(Column(title=name, right=True) for name in numbers),
        Column(title="job"),
        narrowing=("pss", "fds", "threads", "pid", "peak", "age"),
    )
    for worker in found:
        table.add(
            worker.id,
            state(worker.state),
            str(worker.pid),
            str(worker.requests),
            human.size(worker.rss_bytes),
            human.size(worker.peak_rss_bytes),
            human.size(worker.pss_bytes) if worker.pss_bytes else "",
            str(worker.threads),
            str(worker.fds),
            human.span(worker.age_s),
            worker.job or "",
        )
    out.print(table if table.rows else Text("no workers", style="dim"))


def jobs(found: Iterable[views.JobView]) -> None:
    """`sttctl jobs`, and the end of `wait`."""
    out = console()
    now = dt.datetime.now(dt.UTC)
    found = list(found)
    table = Fitted(
        Column(title="job"),
        Column(title="state"),
        Column(title="name", least=12),
        Column(title="audio", right=True),
        Column(title="tries", right=True),
        Column(title="created"),
        Column(title="error", least=24),
        narrowing=(
            *(() if any(job.error for job in found) else ("error",)),  # nothing is in it
            *("~created", "tries", "audio", "created"),
        ),
    )
    for job in found:
        table.add(
            job.job,
            state(job.state),
            human.plain(job.source.name),
            _audio(job),
            str(job.attempts),
            (human.ago(job.created, now), human.ago(job.created, now).removesuffix(" ago")),
            human.plain(f"{job.error.code}: {job.error.message}") if job.error else "",
        )
    out.print(table if table.rows else Text("no jobs", style="dim"))


def _audio(job: views.JobView) -> str:
    if job.duration_s is None:
        return human.clock(job.progress_s) if job.progress_s else ""
    if job.state == "running":
        return f"{human.clock(job.progress_s)}/{human.clock(job.duration_s)}"
    return human.clock(job.duration_s)


def job(view: views.JobDetailView) -> None:
    """`sttctl show`."""
    out = console()
    now = dt.datetime.now(dt.UTC)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("job", view.job)
    grid.add_row("state", state(view.state))
    if view.error:
        grid.add_row("error", human.plain(f"{view.error.code}: {view.error.message}"))
    grid.add_row("source", human.plain(f"{view.source.name} ({view.source.kind})"))
    for name in ("created", "started", "finished"):
        if (moment := getattr(view, name)) is not None:
            grid.add_row(name, f"{human.local(moment)} ({human.ago(moment, now)})")
    if audio := _audio(view):
        grid.add_row("audio", audio)
    if pace := human.pace(view.speed, view.left_s):
        grid.add_row("pace", pace)
    grid.add_row("tries", str(view.attempts))
    if view.priority:
        grid.add_row("priority", str(view.priority))
    if view.worker:
        grid.add_row("worker", view.worker)
    for position, output in enumerate(view.outputs):
        grid.add_row("" if position else "outputs", human.plain(output))
    if view.original:
        grid.add_row("original", human.plain(view.original))
    out.print(grid)
    if view.timeline:
        out.print()
        out.print(timeline.table(view.timeline))


def event_line(event: views.EventView, but: Iterable[str] = ()) -> Text:
    """An event on one line: when, what, and its fields."""
    hidden = {"timestamp", "level", "event", *but}
    level = str(event.get("level", "info"))
    style = {"warning": "yellow", "error": "bold red", "critical": "bold red"}.get(level, "")
    text = Text()
    text.append(_moment(event), style="dim")
    text.append(f"  {event.get('event', '')!s:<18}", style=style or "bold")
    for key, value in event.items():
        if key not in hidden and value is not None:
            text.append(f" {human.plain(key)}=", style="dim")
            text.append(human.plain(_value(value)))
    return text


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _moment(event: views.EventView) -> str:
    stamp = str(event.get("timestamp", ""))
    try:
        return human.local(stamp)
    except ValueError:
        return human.plain(stamp)
