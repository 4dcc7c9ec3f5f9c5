"""A scene as PNG, by zlib alone: lines, boxes and a font of 5 by 7 dots. Knows no plot."""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Iterator, Sequence

from sttd.ctl.scene import Box, Line, Mark, Scene, Words

R = 5.0  # of a mark
DASH, GAP = 7.0, 5.0
SPACING = 6  # dots from letter to letter

# Seven rows of five dots, a byte each.
GLYPHS = {
    "0": "0E11131519110E", "1": "040C040404040E", "2": "0E11010204081F", "3": "1F02040201110E",
    "4": "02060A121F0202", "5": "1F101E0101110E", "6": "0608101E11110E", "7": "1F010204080808",
    "8": "0E11110E11110E", "9": "0E11110F01020C", "a": "00000E010F110F", "b": "1010161911111E",
    "c": "00000E1010110E", "d": "01010D1311110F", "e": "00000E111F100E", "f": "0609081C080808",
    "g": "000F11110F010E", "h": "10101619111111", "i": "04000C0404040E", "j": "0200060202120C",
    "k": "10101214181412", "l": "0C04040404040E", "m": "00001A15151111", "n": "00001619111111",
    "o": "00000E1111110E", "p": "00001E111E1010", "q": "00000D130F0101", "r": "00001619101010",
    "s": "00000E100E011E", "t": "08081C08080906", "u": "0000111111130D", "v": "00001111110A04",
    "w": "0000111115150A", "x": "0000110A040A11", "y": "000011110F010E", "z": "00001F0204081F",
    "B": "1E11111E11111E", "G": "0E11101711110F", "K": "11121418141211", "M": "111B1515111111",
    "R": "1E11111E141211", "S": "0F10100E01011E", "T": "1F040404040404", ".": "00000000000C0C",
    ",": "000000000C0408", ":": "000C0C000C0C00", "-": "0000001F000000", "_": "0000000000001F",
    "(": "02040808080402", ")": "08040202020408", "/": "00010204081000", "'": "0C040800000000",
    ";": "000C0C000C0408",
}  # fmt: skip


def png(scene: Scene) -> bytes:
    """The whole file: 8-bit RGB."""
    canvas = _Canvas(scene.width, scene.height)
    for shape in scene.shapes:
        canvas.draw(shape)
    rows = b"".join(b"\x00" + row for row in canvas.rows())
    header = struct.pack(">IIBBBBB", scene.width, scene.height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data)
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    checked = kind + data
    return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))


class _Canvas:
    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._data = bytearray(b"\xff" * (3 * width * height))

    def rows(self) -> Iterator[bytes]:
        stride = 3 * self._width
        for start in range(0, len(self._data), stride):
            yield bytes(self._data[start : start + stride])

    def draw(self, shape: Line | Box | Words | Mark) -> None:
        colour = bytes.fromhex(shape.colour.removeprefix("#"))
        match shape:
            case Line(points, _, width, dashed):
                self._polyline(points, width, colour, dashed=dashed)
            case Box(x, y, width, height):
                for row in range(round(y), round(y + height)):
                    for column in range(round(x), round(x + width)):
                        self._blend(column, row, colour, 1.0)
            case Words():
                self._words(shape, colour)
            case Mark(x, y, "cross"):
                for sign in (1, -1):
                    ends = ((x - R, y - sign * R), (x + R, y + sign * R))
                    self._polyline(ends, 2.4, colour, dashed=False)
            case Mark(x, y):
                for step in range(int(2 * R)):
                    half = R * (1 - step / (2 * R))
                    for column in range(round(x - half), round(x + half) + 1):
                        self._blend(column, round(y - R) + step, colour, 1.0)

    def _polyline(
        self, points: Sequence[tuple[float, float]], width: float, colour: bytes, *, dashed: bool
    ) -> None:
        gone = 0.0
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            length = math.hypot(x1 - x0, y1 - y0)
            if not dashed:
                self._segment(x0, y0, x1, y1, width, colour)
                continue
            at = 0.0
            while at < length:
                phase = (gone + at) % (DASH + GAP)
                step = min((DASH if phase < DASH else DASH + GAP) - phase, length - at)
                if phase < DASH:
                    a, b = at / length, (at + step) / length
                    dx, dy = x1 - x0, y1 - y0
                    ends = (x0 + a * dx, y0 + a * dy, x0 + b * dx, y0 + b * dy)
                    self._segment(*ends, width, colour)
                at += max(step, 1e-6)
            gone += length

    def _segment(
        self, x0: float, y0: float, x1: float, y1: float, width: float, colour: bytes
    ) -> None:
        """Every pixel near it, by its distance from the line: smooth edges."""
        reach = width / 2 + 0.5
        dx, dy = x1 - x0, y1 - y0
        square = dx * dx + dy * dy
        steep = abs(dy) > abs(dx)
        low, high = (min(y0, y1), max(y0, y1)) if steep else (min(x0, x1), max(x0, x1))
        for major in range(math.floor(low - reach), math.ceil(high + reach) + 1):
            along = (major - (y0 if steep else x0)) / ((dy if steep else dx) or 1.0)
            centre = (x0 + along * dx) if steep else (y0 + along * dy)
            spread = reach * 1.5 + 1
            for minor in range(math.floor(centre - spread), math.ceil(centre + spread) + 1):
                x, y = (minor, major) if steep else (major, minor)
                at = ((x - x0) * dx + (y - y0) * dy) / square if square else 0.0
                at = min(1.0, max(0.0, at))
                distance = math.hypot(x - x0 - at * dx, y - y0 - at * dy)
                self._blend(x, y, colour, min(1.0, reach - distance))

    def _words(self, words: Words, colour: bytes) -> None:
        wide, high = (2, 3) if words.size == "large" else (1, 1)
        advance = SPACING * wide
        shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[words.anchor] * advance * len(words.text)
        left, top = round(words.x - shift), round(words.y) - 7 * high
        for number, letter in enumerate(words.text):
            glyph = GLYPHS.get(letter) or GLYPHS.get(letter.lower(), "")
            for row, dots in enumerate(bytes.fromhex(glyph)):
                for column in range(5):
                    if dots & 16 >> column:
                        x, y = left + number * advance + column * wide, top + row * high
                        for dot in range(wide * high):
                            self._blend(x + dot % wide, y + dot // wide, colour, 1.0)

    def _blend(self, x: int, y: int, colour: bytes, share: float) -> None:
        if share <= 0 or not (0 <= x < self._width and 0 <= y < self._height):
            return
        start = 3 * (y * self._width + x)
        for channel in range(3):
            old = self._data[start + channel]
            self._data[start + channel] = round(old + (colour[channel] - old) * share)
