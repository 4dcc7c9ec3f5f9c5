"""A drawing as a list of shapes, in pixels from the top left: what `svg` and `png` can render."""

from __future__ import annotations

from typing import Literal

import msgspec

Point = tuple[float, float]


class Line(msgspec.Struct, frozen=True):
    """A polyline; `colour` is #rrggbb."""

    points: tuple[Point, ...]
    colour: str
    width: float = 1.0
    dashed: bool = False


class Box(msgspec.Struct, frozen=True):
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str


class Words(msgspec.Struct, frozen=True):
    """A line of text; `y` is its baseline, `size` the height of a capital letter or so."""

    x: float
    y: float
    text: str
    colour: str
    size: Literal["small", "large"] = "small"
    anchor: Literal["start", "middle", "end"] = "start"


class Mark(msgspec.Struct, frozen=True):
    """The end of a worker: a cross for a kill, a triangle for a recycle."""

    x: float
    y: float
    kind: Literal["cross", "triangle"]
    colour: str


Shape = Line | Box | Words | Mark


class Scene(msgspec.Struct, frozen=True):
    """The whole, on white."""

    width: int
    height: int
    shapes: tuple[Shape, ...]
