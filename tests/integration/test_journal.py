"""What a job's attempts leave for the next one."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sttd.transcripts import Segment
from sttd.worker.journal import Journal


def said(start_s: float, text: str, speaker: str | None = None) -> Segment:
    return Segment(start_s=start_s, end_s=start_s + 1, text=text, speaker=speaker)


def test_the_next_attempt_begins_behind_the_last_committed_segment(tmp_path: Path) -> None:
    first = Journal(tmp_path, 1, resume=True)
    assert first.start_s == 0
    first.commit(said(0, "one"))
    first.commit(said(1, "two"))
    first.close()
    second = Journal(tmp_path, 2, resume=True)
    assert second.start_s == 2
    second.commit(said(2, "three"))
    assert [s.text for s in second.segments()] == ["one", "two", "three"]
    assert second.resumed_at_s() == (2.0,)
    second.close()


def test_an_end_beyond_what_the_engine_was_given_is_not_where_the_next_attempt_begins(
    tmp_path: Path,
) -> None:
    first = Journal(tmp_path, 1, resume=True)
    first.commit(
        said(0, "one"), 2.5
    )  # behind what is said comes silence, of which it knows nothing
    first.commit(said(100, "two"), 4.0)
    first.close()
    second = Journal(tmp_path, 2, resume=True)
    assert second.start_s == 4
    assert [s.end_s for s in second.segments()] == [1, 101]
    second.commit(said(4, "three"), 8.0)
    second.close()
    third = Journal(tmp_path, 3, resume=True)
    assert third.start_s == 5
    third.close()


def test_a_journal_of_an_older_sttd_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "segments.jsonl").write_text(
        '{"type":"began","attempt":1,"start_s":0.0}\n'
        '{"type":"said","segment":{"start_s":0.0,"end_s":1.5,"text":"one"}}\n'
    )
    later = Journal(tmp_path, 2, resume=True)
    assert (later.start_s, [s.text for s in later.segments()]) == (1.5, ["one"])
    later.close()


def test_an_attempt_that_committed_nothing_counts_for_no_session(tmp_path: Path) -> None:
    first = Journal(tmp_path, 1, resume=True)
    first.commit(said(0, "one"))
    first.close()
    Journal(tmp_path, 2, resume=True).close()
    third = Journal(tmp_path, 3, resume=True)
    assert len(third.sessions) == 1
    assert third.resumed_at_s() == (1.0,)
    third.close()


def test_without_resuming_everything_is_said_anew(tmp_path: Path) -> None:
    first = Journal(tmp_path, 1, resume=False)
    first.commit(said(0, "one"))
    first.close()
    second = Journal(tmp_path, 2, resume=False)
    assert (second.start_s, second.segments(), second.resumed_at_s()) == (0, [], ())
    second.close()
    third = Journal(tmp_path, 3, resume=True)
    assert third.segments() == []
    third.close()


@given(st.integers(0, 400), st.binary(max_size=20))
def test_whatever_a_power_cut_tears_off_a_journal_can_be_read(
    tmp_path_factory: object, cut: int, tail: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")  # type: ignore[attr-defined]  # a session fixture
    first = Journal(folder, 1, resume=True)
    for n in range(4):
        first.commit(said(n, f"segment {n}"))
    first.close()
    path = folder / "segments.jsonl"
    path.write_bytes(path.read_bytes()[:cut] + tail)
    second = Journal(folder, 2, resume=True)
    texts = [s.text for s in second.segments()]
    assert texts == [f"segment {n}" for n in range(len(texts))]
    second.commit(said(second.start_s, "next"))
    second.close()
    third = Journal(folder, 3, resume=True)
    assert [s.text for s in third.segments()] == [*texts, "next"]
    third.close()
