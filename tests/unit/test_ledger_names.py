import os

from hypothesis import given
from hypothesis import strategies as st

from sttd.supervisor.ledger.names import numbered
from sttd.supervisor.records import printable

MOST = 255 - 32
stems = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


def test_the_first_of_a_name_keeps_it_and_later_ones_are_numbered() -> None:
    assert numbered(b"a/meeting", 1) == b"a/meeting"
    assert numbered(b"a/meeting", 2) == b"a/meeting-2"
    assert numbered(b"meeting", 100_000) == b"meeting-100000"


def test_only_the_last_part_of_a_path_is_cut() -> None:
    folder = b"f" * 250
    assert numbered(folder + b"/" + b"x" * 250, 12) == folder + b"/" + b"x" * (MOST - 3) + b"-12"


@given(stems, st.integers(1, 10**9))
def test_a_name_fits_into_a_file_name_with_its_longest_ending(stem: str, number: int) -> None:
    name = numbered(os.fsencode(stem), number)
    assert len(name) + len(".azure.json") <= 255


@given(stems, st.integers(1, 10**9))
def test_a_cut_is_never_made_inside_a_character(stem: str, number: int) -> None:
    name = os.fsdecode(numbered(os.fsencode(stem), number))
    assert printable(name) == name
    ending = "" if number == 1 else f"-{number}"
    assert stem.startswith(name.removesuffix(ending))


def test_a_name_that_is_no_text_is_cut_too() -> None:
    name = numbered(b"\xe9" * 300, 2)
    assert name == b"\xe9" * (MOST - 2) + b"-2"


def test_a_name_of_nothing_but_continuation_bytes_keeps_something() -> None:
    assert numbered(b"\x80" * 300, 2) == b"\x80-2"
