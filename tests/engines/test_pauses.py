"""Where utterances begin and end, with a detector that reads the answer off the frame."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sttd.engines.pauses import FRAME_BYTES, FRAME_SAMPLES, Pauses, Piece

frames = st.lists(st.booleans(), max_size=200)


def audio(speech: list[bool]) -> bytes:
    """Frames that differ, the first byte telling whether they are speech."""
    return b"".join(
        bytes([voiced]) + number.to_bytes(4) + bytes(FRAME_BYTES - 5)
        for number, voiced in enumerate(speech)
    )


def cut(
    speech: list[bool], chunk: int = 1 << 16, tail: bytes = b"", **settings: int
) -> list[Piece]:
    pcm = audio(speech) + tail
    chunks = [pcm[at : at + chunk] for at in range(0, len(pcm), chunk)]
    return list(Pauses(lambda frame: frame[0] == 1, **settings).pieces(chunks))


def utterances(pieces: list[Piece]) -> list[tuple[int, int]]:
    """First and last frame (exclusive) of each utterance."""
    found, begin = [], None
    for piece in pieces:
        begin = piece.at if begin is None else begin
        if piece.last:
            end = piece.at + len(piece.pcm) // 2
            found.append((begin // FRAME_SAMPLES, end // FRAME_SAMPLES))
            begin = None
    assert begin is None, "an utterance was left open"
    return found


@given(frames)
def test_pieces_are_what_was_heard_in_order_and_never_twice(speech: list[bool]) -> None:
    pieces = cut(speech)
    pcm = audio(speech)
    for piece in pieces:
        assert piece.pcm == pcm[piece.at * 2 : piece.at * 2 + len(piece.pcm)]
    for before, after in pairwise(pieces):
        end = before.at + len(before.pcm) // 2
        assert after.at >= end
        assert before.last or after.at == end


@given(frames, st.integers(1, 5000))
def test_the_size_of_the_chunks_makes_no_difference(speech: list[bool], chunk: int) -> None:
    assert cut(speech, chunk) == cut(speech)


@given(frames, st.binary(max_size=FRAME_BYTES - 1))
def test_every_utterance_is_ended(speech: list[bool], tail: bytes) -> None:
    utterances(cut(speech, tail=tail))


@given(frames)
def test_speech_that_lasts_is_never_missed(speech: list[bool]) -> None:
    heard = utterances(cut(speech))
    for start in range(len(speech) - 9):
        if sum(speech[start : start + 10]) == 10:
            assert any(begin <= start and end > start for begin, end in heard)


def test_silence_and_clicks_are_no_utterance() -> None:
    assert cut([]) == []
    assert cut([False] * 500) == []
    assert cut(([True] * 3 + [False] * 30) * 5) == []


def test_an_utterance_keeps_what_came_just_before_it() -> None:
    speech = [False] * 50 + [True] * 40 + [False] * 50
    # the seventh frame of speech decides; 17 frames are kept by then: 10 and a lead of 7
    assert utterances(cut(speech)) == [(50 + 7 - 17, 50 + 40 + 12)]


def test_a_short_pause_does_not_end_an_utterance() -> None:
    speech = [True] * 30 + [False] * 11 + [True] * 30
    assert utterances(cut(speech)) == [(0, 71)]


def test_a_pause_ends_it_and_the_next_one_overlaps_nothing() -> None:
    speech = [True] * 30 + [False] * 14 + [True] * 30
    assert utterances(cut(speech)) == [(0, 42), (42, 74)]


def test_a_long_utterance_is_cut_at_the_next_frame_without_speech() -> None:
    speech = [True] * 60 + [False] + [True] * 39
    assert utterances(cut(speech, soft_cap=50, hard_cap=80)) == [(0, 61), (61, 100)]


def test_speech_without_any_pause_is_cut_all_the_same() -> None:
    assert utterances(cut([True] * 200, soft_cap=50, hard_cap=80)) == [
        (0, 80),
        (80, 160),
        (160, 200),
    ]


def test_the_last_part_of_a_frame_belongs_to_the_utterance() -> None:
    pieces = cut([True] * 20, tail=b"\x01\x02")
    assert pieces[-1] == Piece(20 * FRAME_SAMPLES, b"\x01\x02", last=True)


def test_memory_does_not_grow_with_the_recording() -> None:
    pauses = Pauses(lambda frame: frame[0] == 1)
    longest = 0
    for piece in pauses.pieces(audio([True] * 60 + [False] * 40) for _ in range(50)):
        longest = max(longest, len(piece.pcm))
    assert longest <= 17 * FRAME_BYTES
