"""Reading a job's journal piece by piece, while another process writes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttd.supervisor import said
from sttd.supervisor.said import Cursor
from sttd.transcripts import Segment
from sttd.worker.journal import Journal


def segment(text: str, at: float = 0.0) -> Segment:
    return Segment(start_s=at, end_s=at + 1, text=text)


def open_journal(folder: Path, attempt: int = 1, *, resume: bool = True) -> Journal:
    return Journal(folder, attempt, resume=resume)


def texts(piece: said.Piece) -> list[str]:
    return [one.text for one in piece.segments]


def journal(folder: Path) -> Path:
    return folder / "segments.jsonl"


def test_what_is_new_comes_once_across_attempts(tmp_path: Path) -> None:
    assert said.read(journal(tmp_path), None) == said.Piece((), None)
    first = open_journal(tmp_path)
    first.commit(segment("a"))
    piece = said.read(journal(tmp_path), None)
    assert texts(piece) == ["a"]
    assert texts(said.read(journal(tmp_path), piece.cursor)) == []
    first.close()
    second = open_journal(tmp_path, 2)
    second.commit(segment("b", 1))
    later = said.read(journal(tmp_path), piece.cursor)
    assert (texts(later), later.restarted) == (["b"], False)
    second.close()


def test_a_journal_begun_anew_is_noticed(tmp_path: Path) -> None:
    first = open_journal(tmp_path)
    first.commit(segment("a"))
    first.close()
    piece = said.read(journal(tmp_path), None)
    second = open_journal(tmp_path, 2, resume=False)
    second.commit(segment("b"))
    second.close()
    again = said.read(journal(tmp_path), piece.cursor)
    assert (texts(again), again.restarted) == (["b"], True)
    assert said.read(journal(tmp_path), again.cursor).restarted is False


def test_a_journal_that_a_power_cut_has_shortened_is_noticed(tmp_path: Path) -> None:
    first = open_journal(tmp_path)
    first.commit(segment("a"))
    first.commit(segment("b", 1))
    first.close()
    piece = said.read(journal(tmp_path), None)
    whole = journal(tmp_path).read_bytes()
    os.truncate(journal(tmp_path), len(whole) - 5)
    assert said.read(journal(tmp_path), piece.cursor).restarted
    second = open_journal(tmp_path, 2)
    for text in ("another b", "c", "d"):
        second.commit(segment(text, 1))
    second.close()
    again = said.read(journal(tmp_path), piece.cursor)
    assert (texts(again), again.restarted) == (["a", "another b", "c", "d"], True)


def test_a_line_that_is_half_written_waits(tmp_path: Path) -> None:
    first = open_journal(tmp_path)
    first.commit(segment("a"))
    first.close()
    whole = journal(tmp_path).read_bytes()
    journal(tmp_path).write_bytes(whole + b'{"type":"said","segm')
    piece = said.read(journal(tmp_path), None)
    assert texts(piece) == ["a"]
    journal(tmp_path).write_bytes(whole + whole.splitlines(keepends=True)[1])
    assert texts(said.read(journal(tmp_path), piece.cursor)) == ["a"]


def test_a_long_journal_comes_in_bounded_pieces_and_a_long_line_whole(tmp_path: Path) -> None:
    first = open_journal(tmp_path)
    long = "x" * (3 * said.PIECE)
    wanted = [f"{n} " + "y" * 1000 for n in range(600)]
    for text in (*wanted, long, "the end"):
        first.commit(segment(text))
    first.close()
    cursor, found, pieces = None, [], 0
    while piece := said.read(journal(tmp_path), cursor):
        if not piece.segments:
            break
        assert sum(map(len, texts(piece))) < len(long) + said.PIECE
        found += texts(piece)
        cursor, pieces = piece.cursor, pieces + 1
    assert found == [*wanted, long, "the end"]
    assert pieces > 2


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not for you")
    journal(tmp_path).symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        said.read(journal(tmp_path), None)


@given(st.text(max_size=64))
def test_a_cursor_is_one_of_ours_or_refused(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except ValueError as error:
        assert "no cursor" in str(error)  # noqa: PT017 - either way is fine
    else:
        assert cursor is None or Cursor.parse(str(cursor)) == cursor


@settings(max_examples=50)
@given(attempt=st.integers(0, 99), offset=st.integers(0, 10**6), checksum=st.integers(0, 2**32 - 1))
def test_a_cursor_of_nobodys_gets_everything_from_the_start(
    tmp_path_factory: pytest.TempPathFactory, attempt: int, offset: int, checksum: int
) -> None:
    folder = tmp_path_factory.mktemp("job")
    first = open_journal(folder)
    first.commit(segment("a"))
    first.close()
    piece = said.read(journal(folder), Cursor(attempt, offset, checksum))
    assert (texts(piece), piece.restarted) in ((["a"], True), ([], False), (["a"], False))
