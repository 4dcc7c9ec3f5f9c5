"""Sizes, times and budgets as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.config import units

SIZES = [
    ("0", 0),
    ("4096", 4096),
    (4096, 4096),
    ("1B", 1),
    ("1KiB", 1024),
    ("512MiB", 512 << 20),
    ("1.5GiB", 3 << 29),
    ("1kB", 1000),
    ("3MB", 3_000_000),
    ("2GB", 2_000_000_000),
    (" 16 MiB ", 16 << 20),
]
TIMES = [
    ("0", 0.0),
    (0, 0.0),
    (0.25, 0.25),
    ("0.25s", 0.25),
    ("250ms", 0.25),
    ("90", 90.0),
    ("90s", 90.0),
    ("15min", 900.0),
    ("6h", 21600.0),
    ("7d", 604800.0),
]
NO_QUANTITIES = ["", "MiB", "-1", "1e3", "1,5", "1 2", "0x10", "one", "½", "٣", "1.", ".5", "%"]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes_are_bytes(text: object, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), TIMES)
def test_times_are_seconds(text: object, seconds: float) -> None:
    assert units.parse_seconds(text) == seconds


@pytest.mark.parametrize("parse", [units.parse_size, units.parse_seconds, units.parse_budget])
@pytest.mark.parametrize(
    "value", [*NO_QUANTITIES, True, None, [], {}, -1, -0.5, math.nan, math.inf]
)
def test_what_is_no_quantity_is_refused_with_an_example(parse: object, value: object) -> None:
    with pytest.raises(units.UnitError, match="such as"):
        parse(value)  # type: ignore[operator]  # one of three functions


@pytest.mark.parametrize(
    ("text", "meant"), [("5m", "min"), ("5sec", "s"), ("5H", "h"), ("5days", "d")]
)
def test_an_unknown_unit_of_time_names_the_one_that_was_meant(text: str, meant: str) -> None:
    with pytest.raises(units.UnitError, match=f'did you mean "{meant}"'):
        units.parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "meant"), [("5M", "MiB"), ("5mb", "MB"), ("5gib", "GiB"), ("5G", "GiB"), ("5K", "KiB")]
)
def test_an_unknown_unit_of_size_names_the_one_that_was_meant(text: str, meant: str) -> None:
    with pytest.raises(units.UnitError, match=f'did you mean "{meant}"'):
        units.parse_size(text)


def test_an_unknown_unit_without_a_likeness_names_them_all() -> None:
    with pytest.raises(units.UnitError, match="units are B, KiB, MiB, GiB, kB, MB, GB"):
        units.parse_size("5parsecs")


def test_there_are_no_parts_of_a_byte() -> None:
    with pytest.raises(units.UnitError, match="parts of a byte"):
        units.parse_size("1.5")


def test_sizes_and_times_have_an_end() -> None:
    with pytest.raises(units.UnitError, match="at most"):
        units.parse_size("99999999999GiB")
    with pytest.raises(units.UnitError, match="at most"):
        units.parse_seconds("36501d")


@pytest.mark.parametrize(
    ("text", "total", "size"),
    [
        ("60%", 1000 << 20, 600 << 20),
        ("100%", 7, 7),
        ("0.5%", 2000, 10),
        ("2MiB", 1 << 30, 2 << 20),
    ],
)
def test_a_budget_is_a_share_or_a_size(text: str, total: int, size: int) -> None:
    assert units.budget_bytes(units.parse_budget(text), total) == size


@pytest.mark.parametrize("text", ["0%", "101%", "60", "0", "1023KiB", "-5%"])
def test_a_budget_that_holds_no_worker_or_more_than_the_machine_is_refused(text: str) -> None:
    with pytest.raises(units.UnitError):
        units.parse_budget(text)


def test_a_budget_is_never_more_than_there_is() -> None:
    assert units.budget_bytes("64GiB", 1 << 30) == 1 << 30


@given(st.integers(0, units.LARGEST))
def test_every_size_survives_being_shown(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@given(st.floats(0, units.LONGEST).map(lambda x: round(x, 9)))
def test_every_time_survives_being_shown(seconds: float) -> None:
    assert units.parse_seconds(units.format_seconds(seconds)) == pytest.approx(seconds, rel=1e-12)


@given(st.text())
def test_any_text_is_a_size_or_a_clear_refusal(text: str) -> None:
    for parse in (units.parse_size, units.parse_seconds, units.parse_budget):
        try:
            parse(text)
        except units.UnitError as error:
            assert str(error).startswith("must be")  # noqa: PT017 (most texts are refused)


@given(st.floats(0.001, 100), st.integers(1 << 20, 1 << 50))
def test_a_share_is_within_the_whole(share: float, total: int) -> None:
    assert 0 <= units.budget_bytes(f"{units.format_number(share)}%", total) <= total
