"""A progress bar for `sttd run-once`, fed by events; silent unless stderr is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from sttd.log import Record


class Progress:
    """One bar over the audio of all files known so far, plus the count of finished ones."""

    def __init__(self, files: int) -> None:
        self._files = files
        self._done = 0
        self._at: dict[str, tuple[float, float]] = {}  # job -> position, duration
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Self:
        if self._live:
            from rich import progress  # noqa: PLC0415 (costs 60 ms; only for terminals)
            from rich.console import Console  # noqa: PLC0415

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[audio]}"),
                progress.TextColumn("{task.fields[speed]}"),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            files = f"0/{self._files}"
            self._task = self._bar.add_task(files, total=None, audio="", speed="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._bar.stop()

    def tell(self, line: str) -> None:
        """A line on stderr, above the bar where there is one."""
        if self._live:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr)  # noqa: T201 (for who has called run-once)

    def heard(self, name: str, record: Record) -> None:
        """Take an event of the log."""
        job = str(record.get("job"))
        if name in ("job.succeeded", "job.failed"):
            self._done += 1
            _, duration = self._at.get(job, (0.0, 0.0))
            self._at[job] = (duration, duration)
        elif name == "job.progress":
            position, duration = _number(record["position_s"]), _number(record["duration_s"])
            self._at[job] = (position, max(position, duration))
        else:
            return
        if self._live:
            self._show()

    def _show(self) -> None:
        position = sum(at for at, _ in self._at.values())
        known = sum(duration for _, duration in self._at.values())
        total = known * self._files / max(len(self._at), 1)
        elapsed = self._bar.tasks[0].elapsed or 0.0
        speed = f"{position / elapsed:.1f} x real time" if elapsed > 1 and position else ""
        audio = f"{_clock(position)}/{_clock(known)} of audio" if known else ""
        self._bar.update(
            self._task,
            completed=position,
            total=total or None,
            description=f"{self._done}/{self._files}",
            audio=audio,
            speed=speed,
        )


def _clock(seconds: float) -> str:
    """A place in a recording as `1:02:03`."""
    hours, second = divmod(int(seconds), 3600)
    minute, second = divmod(second, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
