"""The verb top: the daemon at a glance, drawn anew each second, with a few keys.

On a terminal until q or Ctrl-C, which leave it as it was; in a pipe one frame, plain.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import click

from sttd.client import DaemonUnavailable, Refused
from sttd.config.units import UnitError, parse_size
from sttd.ctl.pace import Pace
from sttd.ctl.session import Session, json_option, pass_session, print_json

if TYPE_CHECKING:
    from sttd.ctl.topview import Picture
    from sttd.wire.views import JobView

LINES_EVERY_S = 30.0  # how often the soft line and the ceiling are asked for again
ARROWS = {b"\x1b[A": -1, b"\x1bOA": -1, b"\x1b[B": 1, b"\x1bOB": 1, b"k": -1, b"j": 1}
MOST_JOBS = 1000
MOST_ASKED = 64  # jobs whose pace is shown


class _Quit(Exception):  # noqa: N818 - no error
    """Someone wants to leave."""


@click.command()
@click.option(
    "--every", type=click.FloatRange(min=0.1), default=1.0, metavar="S", show_default=True,
    help="Seconds between looks.",
)  # fmt: skip
@json_option
@pass_session
def top(session: Session, every: float) -> None:
    """Watch workers, jobs, memory and rates.

    Keys: up and down select a worker, r recycles it, R recycles all, d drains or resumes,
    q quits.
    """
    if session.json:
        print_json(session.client.status())
        return
    view = _View(session, every)
    if sys.stdout.isatty():
        view.live()
    else:
        view.once()


class _View:
    def __init__(self, session: Session, every: float) -> None:
        from sttd.ctl.topview import Picture  # noqa: PLC0415 - rich is slow to import

        self._client = session.client
        self._every = every
        self._lines_at = 0.0
        self._picture: Picture = Picture(status=self._client.status(), jobs={}, pace=Pace())

    def once(self) -> None:
        """One frame, for a pipe, after two looks: speeds and rates need both."""
        from sttd.ctl import views  # noqa: PLC0415
        from sttd.ctl.topview import frame  # noqa: PLC0415

        self._picture.live = False
        self._look()
        time.sleep(self._every)
        self._look()
        views.console().print(frame(self._picture))

    def live(self) -> None:
        """Until someone quits."""
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        from sttd.ctl.topview import frame  # noqa: PLC0415

        console = Console(highlight=False, markup=False, emoji=False)
        keys = sys.stdin.isatty()
        self._picture.live = keys
        with (
            contextlib.suppress(_Quit, KeyboardInterrupt),
            _terminal(keys=keys),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while True:
                self._look()
                live.update(frame(self._picture), refresh=True)
                end = time.monotonic() + self._every
                while (left := end - time.monotonic()) > 0:
                    if key := _key(left, keys=keys):
                        self._press(key)
                        live.update(frame(self._picture), refresh=True)

    def _look(self) -> None:
        picture = self._picture
        try:
            status = self._client.status()
            running = self._client.jobs(state="running", limit=MOST_JOBS)
            if time.monotonic() >= self._lines_at:
                self._lines_at = time.monotonic() + LINES_EVERY_S
                self._ask_lines()
        except DaemonUnavailable as error:
            if not picture.live:
                raise
            picture.said = f"{error}; it is asked again"
            return
        if picture.said.endswith("it is asked again"):
            picture.said = ""
        picture.status = status
        picture.jobs = {job.job: job for job in running}
        queue = status.queue
        picture.pace.look(time.monotonic(), running, queue.succeeded + queue.failed)
        picture.going = {job.job: self._going(job) for job in running[:MOST_ASKED]}
        ids = [worker.id for worker in status.pool.workers]
        if picture.selected not in ids:
            picture.selected = ids[0] if ids and picture.live else None

    def _going(self, job: JobView) -> tuple[float | None, float | None]:
        """Speed and time left: as seen here, or until enough was seen as the daemon says."""
        pace = self._picture.pace
        if (speed := pace.speed(job.job)) is not None:
            return speed, pace.left_s(job)
        try:
            shown = self._client.show(job.job)
        except Refused:  # pruned in between
            return None, None
        return shown.speed, shown.left_s

    def _ask_lines(self) -> None:
        values = {one.key: one.value for one in self._client.config()}
        self._picture.soft_bytes = _size(values.get("recycle.rss_soft"))
        self._picture.ceiling_bytes = _size(values.get("recycle.rss_ceiling"))

    def _press(self, key: bytes) -> None:
        picture = self._picture
        picture.said = ""
        if key in (b"q", b"Q"):
            raise _Quit
        if key in ARROWS:
            ids = [worker.id for worker in picture.status.pool.workers]
            if picture.selected in ids:
                picture.selected = ids[(ids.index(picture.selected) + ARROWS[key]) % len(ids)]
            return
        try:
            picture.said = self._act(key)
        except (Refused, DaemonUnavailable) as error:
            picture.said = str(error)

    def _act(self, key: bytes) -> str:
        picture = self._picture
        if key == b"r" and picture.selected is not None:
            told = self._client.recycle(picture.selected)
            return f"recycling {', '.join(told)}, after its job"
        if key == b"R":
            told = self._client.recycle()
            return f"recycling {', '.join(told)}, each after its job"
        if key == b"d":
            # asked now: the picture is from before the last key, and would drain once more
            if self._client.status().daemon.state in ("draining", "drained"):
                return f"resumed: {self._client.resume().state}"
            return f"no more jobs start: {self._client.drain().state}; d again resumes"
        return ""


def _size(value: object) -> int:
    try:
        return parse_size(value)
    except UnitError:
        return 0


@contextlib.contextmanager
def _terminal(*, keys: bool) -> Iterator[None]:
    """Keys come one by one and unseen; whatever happens, the terminal is as before in the end."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise _Quit

    before = signal.signal(signal.SIGTERM, leave)
    try:
        if not keys:
            yield
            return
        mode = termios.tcgetattr(sys.stdin)
        try:
            tty.setcbreak(sys.stdin)
            yield
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, mode)
    finally:
        signal.signal(signal.SIGTERM, before)


def _key(timeout_s: float, *, keys: bool) -> bytes:
    """A key, whole sequences of arrows included; empty when none came in time."""
    if not keys:
        time.sleep(timeout_s)
        return b""
    ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
    if not ready:
        return b""
    found = os.read(sys.stdin.fileno(), 8)
    if not found:
        raise _Quit  # nobody is at the terminal any more
    return found
