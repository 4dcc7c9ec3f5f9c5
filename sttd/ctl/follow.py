"""`submit --follow`: what jobs say, as they say it; lines for people, or one JSON object a line."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from sttd.client import JobFailed, Refused, WaitTimeout
from sttd.ctl import human
from sttd.ctl.session import Session, complain, print_json_line
from sttd.transcripts import Segment
from sttd.wire.views import JobView

VOID = "-- begun anew: what this job has said so far is void --"


class Spoken(msgspec.Struct, frozen=True):
    """A line of `submit --follow --json`."""

    job: str
    segment: Segment


class Restarted(msgspec.Struct, frozen=True):
    """Likewise: the lines of this job so far are void."""

    job: str
    restarted: bool = True


def follow(session: Session, jobs: Sequence[JobView], timeout: float | None) -> None:
    """Print what the jobs say, one job after the other, until all are over or time is."""
    end = None if timeout is None else time.monotonic() + timeout
    say = _say_json if session.json else _sayer(titled=len(jobs) > 1)
    for job in jobs:
        left = None if end is None else max(0.0, end - time.monotonic())
        say(job, None)
        try:
            void = functools.partial(say, job, VOID)
            for segment in session.client.segments(job, left, on_restart=void):
                say(job, segment)
        except WaitTimeout:
            return  # whoever waits for them says so
        except JobFailed:
            continue  # likewise
        except Refused as error:
            complain(f"{human.plain(job.source.name)}: {error}", error.hint)


Say = Callable[[JobView, Segment | str | None], None]


def _say_json(job: JobView, said: Segment | str | None) -> None:
    if isinstance(said, Segment):
        print_json_line(Spoken(job.job, said))
    elif said is not None:
        print_json_line(Restarted(job.job))


def _sayer(*, titled: bool) -> Say:
    from rich.text import Text  # noqa: PLC0415 - slow to import

    from sttd.ctl import views  # noqa: PLC0415

    out = views.console()

    def say(job: JobView, said: Segment | str | None) -> None:
        if isinstance(said, Segment):
            line = Text(f"[{stamp(said.start_s)} - {stamp(said.end_s)}] ", style="dim")
            if said.speaker:
                line.append(f"{human.plain(said.speaker)}: ", style="not dim bold")
            out.print(line.append(human.plain(said.text), style="not dim"))
        elif said is not None:
            out.print(Text(said, style="yellow"))
        elif titled:
            out.print(Text(f"# {human.plain(job.source.name)}", style="bold"))
        sys.stdout.flush()

    return say


def stamp(seconds: float) -> str:
    """A place in a recording as `00:01:02.500`."""
    minutes, millis = divmod(round(seconds * 1000), 60_000)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02d}:{minute:02d}:{millis // 1000:02d}.{millis % 1000:03d}"
