"""A scene as SVG. Writes text, knows no plot."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from sttd.ctl.scene import Box, Line, Mark, Scene, Shape, Words

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
SIZES = {"small": 12, "large": 20}
R = 5.0  # of a mark
# Lines behind a word do not strike it through.
HALO = ' paint-order="stroke" stroke="#ffffff" stroke-width="3"'


def svg(scene: Scene) -> str:
    """The whole document."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{scene.width}" height="{scene.height}" '
        f'viewBox="0 0 {scene.width} {scene.height}" font-family={quoteattr(FONT)}>'
    )
    body = [line for shape in scene.shapes for line in _shape(shape)]
    white = f'<rect width="{scene.width}" height="{scene.height}" fill="#ffffff"/>'
    return "\n".join([head, white, *body, "</svg>", ""])


def _shape(shape: Shape) -> Iterator[str]:
    match shape:
        case Line(points, colour, width, dashed):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            dash = ' stroke-dasharray="7 5"' if dashed else ""
            yield (
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
                f'stroke-linejoin="round"{dash}/>'
            )
        case Box(x, y, width, height, colour):
            yield (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
                f'fill="{colour}"/>'
            )
        case Words(x, y, text, colour, size, anchor):
            bold = ' font-weight="600"' if size == "large" else ""
            yield (
                f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{SIZES[size]}" '
                f'text-anchor="{anchor}"{bold}{HALO}>{escape(text)}</text>'
            )
        case Mark(x, y, "cross", colour):
            yield (
                f'<path d="M{x - R:.1f},{y - R:.1f} L{x + R:.1f},{y + R:.1f} M{x - R:.1f},'
                f'{y + R:.1f} L{x + R:.1f},{y - R:.1f}" stroke="{colour}" stroke-width="2.4"/>'
            )
        case Mark(x, y, _, colour):
            yield (
                f'<path d="M{x - R:.1f},{y - R:.1f} L{x + R:.1f},{y - R:.1f} L{x:.1f},'
                f'{y + R - 1:.1f} Z" fill="{colour}"/>'
            )
