"""The picture of the saw-tooth: everything is in it, in its place, and both files are sound."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttd.core.staff import REASONS
from sttd.ctl import reasons
from sttd.ctl.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, plot
from sttd.ctl.png import GLYPHS, png
from sttd.ctl.scene import Line, Mark, Scene, Words
from sttd.ctl.svg import svg
from sttd.wire.memory import CurvesView, CurveView

MIB = 1 << 20
NOW = "2026-01-31T12:00:00.000Z"

CURVES = st.lists(
    st.builds(
        CurveView,
        worker=st.integers(1, 9999).map(lambda number: f"w-{number}"),
        ended=st.none() | st.sampled_from(REASONS),
        killed=st.booleans(),
        points=st.lists(st.tuples(st.floats(-90_000, 0), st.integers(0, 1 << 34)), max_size=8).map(
            lambda points: tuple(sorted(points))
        ),
    ),
    max_size=8,
).map(tuple)
VIEWS = st.builds(
    CurvesView,
    now=st.just(NOW),
    soft_bytes=st.sampled_from([0, 384 * MIB]),
    ceiling_bytes=st.sampled_from([0, 512 * MIB]),
    curves=CURVES,
)


def view(*curves: CurveView, soft: int = 80 * MIB, ceiling: int = 120 * MIB) -> CurvesView:
    return CurvesView(now=NOW, soft_bytes=soft, ceiling_bytes=ceiling, curves=curves)


def words(scene: Scene) -> list[str]:
    return [shape.text for shape in scene.shapes if isinstance(shape, Words)]


TOOTH = CurveView(worker="w-1", ended="max_requests", points=((-60.0, 20 * MIB), (-30.0, 90 * MIB)))
KILL = CurveView(
    worker="w-2", ended="rss_ceiling", killed=True, points=((-30.0, 20 * MIB), (-5.0, 121 * MIB))
)


@given(VIEWS)
@settings(max_examples=60)
def test_whatever_happened_lines_and_marks_stay_in_the_field(shown: CurvesView) -> None:
    for shape in plot(shown).shapes:
        if isinstance(shape, Line):
            for x, y in shape.points:
                assert LEFT - 1 <= x <= RIGHT + 2
                assert TOP - 1 <= y <= HEIGHT
        if isinstance(shape, Words | Mark):
            assert 0 <= shape.x <= WIDTH
            assert 0 <= shape.y <= HEIGHT


def test_a_kill_is_a_cross_a_recycle_a_triangle_and_both_say_why() -> None:
    scene = plot(view(TOOTH, KILL))
    field = [s for s in scene.shapes if isinstance(s, Mark) and s.y < BOTTOM]
    assert sorted(mark.kind for mark in field) == ["cross", "triangle"]
    said = words(scene)
    assert {"w-1 max_requests", "w-2 rss_ceiling", "soft 80 MiB", "ceiling 120 MiB"} <= set(said)
    assert "killed: rss_ceiling (1)" in said
    assert "recycled: max_requests (1)" in said


def test_a_ceiling_far_above_the_data_is_told_and_does_not_flatten_the_teeth() -> None:
    scene = plot(view(TOOTH, soft=0, ceiling=4096 * MIB))
    assert "ceiling 4.0 GiB, above this picture" in words(scene)
    tooth = next(s for s in scene.shapes if isinstance(s, Line) and s.width == 1.8)
    heights = [y for _, y in tooth.points]
    assert max(heights) - min(heights) > (BOTTOM - TOP) / 2


def test_labels_do_not_lie_upon_each_other() -> None:
    crowd = [
        CurveView(worker=f"w-{n}", ended="max_requests", points=((-60.0, MIB), (-5.0, 90 * MIB)))
        for n in range(30)
    ]
    scene = plot(view(*crowd))
    labels = [s for s in scene.shapes if isinstance(s, Words) and s.text.startswith("w-")]
    assert 0 < len(labels) < 30
    assert len({(label.x, label.y) for label in labels}) == len(labels)
    assert "recycled: max_requests (30)" in words(scene)


def test_nothing_remembered_is_said_in_the_picture() -> None:
    assert "no samples yet" in words(plot(view()))


def test_the_svg_is_xml_whatever_a_worker_is_called() -> None:
    hostile = CurveView(worker='<&">', points=((-2.0, MIB), (0.0, MIB)))
    root = ET.fromstring(svg(plot(view(hostile, TOOTH))))
    assert root.get("width") == str(WIDTH)
    assert '<&">' in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_png_is_one_and_shows_the_ceiling_in_its_colour() -> None:
    data = png(plot(view(TOOTH, KILL)))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (check,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert check == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert len(pixels) == HEIGHT * (1 + 3 * WIDTH)
    assert pixels.count(bytes.fromhex("b91c1c")) > 100


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_can_be_written_and_has_its_sentence(reason: str) -> None:
    curve = CurveView(worker="w-1", ended=reason, points=((-9.0, 90 * MIB),))
    letters = set("".join(words(plot(view(curve)))))
    assert all(x in GLYPHS or x.lower() in GLYPHS for x in letters - {" "})
    assert reasons.because(reason) != reason


def test_there_is_a_sentence_for_each_reason_and_no_other() -> None:
    assert tuple(reasons.REASONS) == REASONS
