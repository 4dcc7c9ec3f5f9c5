"""The saw-tooth: every worker's RSS over time with its soft line, its ceiling and its ends. Pure.

Decides what is where; `svg` and `png` put it into a file.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence

from sttd.ctl import human
from sttd.ctl.scene import Box, Line, Mark, Scene, Shape, Words
from sttd.wire.memory import CurvesView, CurveView

WIDTH, HEIGHT = 1200, 640
LEFT, RIGHT, TOP, BOTTOM = 92, 1170, 84, 540  # of the field
INK, FAINT, GRID = "#222222", "#6b7280", "#e5e7eb"
SOFT, CEILING = "#b45309", "#b91c1c"
# Okabe and Ito's colours that read well as lines on white.
WORKERS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#7b61a8", "#8c6d31", "#3b8686", "#5f6b8a")
ENDS = {
    "rss_ceiling": CEILING,
    "crashed": "#7f1d1d",
    "stalled": "#c2410c",
    "job_timeout": "#be185d",
    "rss_soft": SOFT,
    "predicted": "#7c3aed",
    "max_requests": "#1d4ed8",
    "max_age": "#0f766e",
}
STEPS_S = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10800,
    21600,
    43200,
    86400,
)
MOST_TICKS = 9
WORD = 7.2  # pixels of a character, at most
ROW = 15  # pixels of a line of small text
FAR = 2.0  # a line higher than so many times the data is told, not drawn: the teeth would be flat


def plot(view: CurvesView) -> Scene:
    """The picture of what `Client.memory_history` gives."""
    shapes = [
        *_Field(view).shapes(),
        Words(LEFT, 34, "Memory of the workers (RSS)", INK, "large"),
        Words(LEFT, 58, _subtitle(view), FAINT),
    ]
    return Scene(WIDTH, HEIGHT, tuple(shapes))


def _subtitle(view: CurvesView) -> str:
    living = sum(curve.ended is None for curve in view.curves)
    ended = len(view.curves) - living
    moment = dt.datetime.fromisoformat(view.now).astimezone()
    return f"{living} living, {ended} ended; until {moment:%Y-%m-%d %H:%M:%S}, local time"


class _Field:
    """The field of the plot: from seconds and bytes to pixels, and everything inside."""

    def __init__(self, view: CurvesView) -> None:
        self._view = view
        points = [point for curve in view.curves for point in curve.points]
        self._start = min(min((at for at, _ in points), default=0.0), -1.0)
        highest = max([1 << 10, *(size for _, size in points)])
        lines = [
            line for line in (view.soft_bytes, view.ceiling_bytes) if 0 < line <= FAR * highest
        ]
        self._top = max([highest, *lines]) * 1.08
        self._taken: list[tuple[float, float, float, float]] = []

    def shapes(self) -> Iterator[Shape]:
        yield from self._bytes_axis()
        yield from self._time_axis()
        yield from self._limits()
        for number, curve in enumerate(self._view.curves):
            yield from self._curve(curve, WORKERS[number % len(WORKERS)])
        if not self._view.curves:
            yield Words((LEFT + RIGHT) / 2, 310, "no samples yet", FAINT, anchor="middle")
        yield from self._ends()
        yield from self._legend()

    # -- scales --------------------------------------------------------------------------------
    def _x(self, at: float) -> float:
        return RIGHT - (at / self._start) * (RIGHT - LEFT)

    def _y(self, size: float) -> float:
        return BOTTOM - size / self._top * (BOTTOM - TOP)

    def _bytes_axis(self) -> Iterator[Shape]:
        step = 1 << 10
        while self._top / step > MOST_TICKS - 1:
            step *= 2
        for size in range(0, int(self._top) + 1, step):
            y = self._y(size)
            yield Line(((LEFT, y), (RIGHT, y)), INK if size == 0 else GRID)
            yield Words(LEFT - 10, y + 4, human.size(size), FAINT, anchor="end")

    def _time_axis(self) -> Iterator[Shape]:
        step = next((s for s in STEPS_S if -self._start / s <= MOST_TICKS), 86400)
        now = dt.datetime.fromisoformat(self._view.now).astimezone()
        offset = now.utcoffset() or dt.timedelta()
        local_s = now.timestamp() + offset.total_seconds()
        at = -(local_s % step)
        while at >= self._start:
            x, moment = self._x(at), now + dt.timedelta(seconds=at)
            yield Line(((x, BOTTOM), (x, BOTTOM + 5)), INK)
            text = f"{moment:%H:%M:%S}" if step < 60 else f"{moment:%H:%M}"
            yield Words(x, BOTTOM + 21, text, FAINT, anchor="middle")
            at -= step

    def _limits(self) -> Iterator[Shape]:
        for name, size, colour in self._lines():
            if size <= self._top:
                y = self._y(size)
                yield Line(((LEFT, y), (RIGHT, y)), colour, 1.5, dashed=True)
                yield self._words(RIGHT - 4, y - 6, f"{name} {human.size(size)}", colour, "end")

    def _lines(self) -> list[tuple[str, int, str]]:
        both = (
            ("soft", self._view.soft_bytes, SOFT),
            ("ceiling", self._view.ceiling_bytes, CEILING),
        )
        return [line for line in both if line[1] > 0]

    # -- the lives -----------------------------------------------------------------------------
    def _curve(self, curve: CurveView, colour: str) -> Iterator[Shape]:
        points = tuple((self._x(at), self._y(size)) for at, size in curve.points)
        if len(points) == 1:
            points = (points[0], (points[0][0] + 1, points[0][1]))
        yield Line(points, colour, 1.8)

    def _ends(self) -> Iterator[Shape]:
        """Marks and labels; where labels would lie upon each other, the mark and legend tell."""
        for curve in self._view.curves:
            if not curve.points:
                continue
            at, size = curve.points[-1]
            x, y = self._x(at), self._y(size)
            if curve.ended is None:
                label, colour = curve.worker, INK
            else:
                label, colour = f"{curve.worker} {curve.ended}", end_colour(curve.ended)
                yield Mark(x, y, "cross" if curve.killed else "triangle", colour)
            yield from self._label(x, y, label, colour)

    def _label(self, x: float, y: float, text: str, colour: str) -> Iterator[Words]:
        width = len(text) * WORD
        right = x + 8 + width > RIGHT
        for lift in (-8, -8 - ROW, 18, -8 - 2 * ROW):
            left = x - 8 - width if right else x + 8
            box = (left, y + lift - 11, left + width, y + lift + 3)
            inside = box[1] > TOP - 16 and box[3] < BOTTOM
            if inside and not any(_overlap(box, other) for other in self._taken):
                yield self._words(left, y + lift, text, colour, "start")
                return

    def _words(self, x: float, y: float, text: str, colour: str, anchor: str) -> Words:
        width = len(text) * WORD
        left = x - width if anchor == "end" else x
        self._taken.append((left, y - 11, left + width, y + 3))
        return Words(x, y, text, colour, anchor="end" if anchor == "end" else "start")

    # -- beneath -------------------------------------------------------------------------------
    def _legend(self) -> Iterator[Shape]:
        x, y = float(LEFT), BOTTOM + 58.0
        for sign, text, colour in self._entries():
            width = 24 + len(text) * WORD + 22
            if x + width > RIGHT:
                x, y = float(LEFT), y + 22
            if sign == "line":
                yield Line(((x, y - 4), (x + 18, y - 4)), colour, 1.5, dashed=True)
            elif sign == "worker":
                for number in range(3):
                    yield Box(x + 6 * number, y - 6, 6, 4, WORKERS[number])
            else:
                yield Mark(x + 9, y - 4, "cross" if sign == "cross" else "triangle", colour)
            yield Words(x + 24, y, text, INK)
            x += width

    def _entries(self) -> Iterator[tuple[str, str, str]]:
        yield "worker", "a worker's life", INK
        for name, size, colour in self._lines():
            above = "" if size <= self._top else ", above this picture"
            yield "line", f"{name} {human.size(size)}{above}", colour
        ends: Counter[tuple[str, bool]] = Counter(
            (curve.ended, curve.killed) for curve in self._view.curves if curve.ended
        )
        for (reason, killed), count in ends.most_common():
            how = "killed" if killed else "recycled"
            if reason == "crashed":
                how = "died"
            sign = "cross" if killed or reason == "crashed" else "triangle"
            yield sign, f"{how}: {reason} ({count})", end_colour(reason)


def end_colour(reason: str) -> str:
    """The colour of a life's end."""
    return ENDS.get(reason, FAINT)


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
