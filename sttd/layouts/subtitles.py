"""Subtitles: segments cut into cues that can be read, as SubRip (srt) and WebVTT (vtt).

A cue has at most two lines of 42 columns and lasts at most 7 seconds (the usual rule of
broadcasters). Times come from the words where the engine gave them, else from the share of the
text. SubRip has no standard; what every player reads is written. WebVTT: w3.org/TR/webvtt1.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator

import msgspec

from sttd.transcripts import Segment, Transcript

COLUMNS = 42
LINES = 2
LONGEST_S = 7.0
_MARKS = frozenset({"Mn", "Mc", "Me"})  # stand on, below or beside the letter before them
_WIDTHLESS = frozenset({"Mn", "Me", "Cf"})
_JOINER = "\u200d"  # makes one picture of the two beside it
_SHORTEST_MS = 1  # a cue must end after it starts
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*$")  # noqa: RUF001 - meant so


class Token(msgspec.Struct, frozen=True):
    """What is never broken: a word, or a line's worth of one that is longer."""

    text: str
    start_s: float
    end_s: float
    glued: bool  # no space before it


class Cue(msgspec.Struct, frozen=True):
    """One picture of text; milliseconds from the start, `end_ms` after `start_ms`."""

    start_ms: int
    end_ms: int
    speaker: str | None
    lines: tuple[str, ...]


def srt(transcript: Transcript) -> bytes:
    """SubRip; the speaker goes before the text (`Guest-1: Good morning.`)."""
    blocks = []
    for number, cue in enumerate(_cues(transcript, _srt_prefix), 1):
        text = _srt_prefix(cue.speaker) + "\n".join(cue.lines)
        text = text.replace("-->", "->")  # a reader would take it for a time
        times = f"{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}"
        blocks.append(f"{number}\n{times}\n{text}\n")
    return "\n".join(blocks).encode()


def vtt(transcript: Transcript) -> bytes:
    """WebVTT; the speaker is a voice tag (`<v Guest-1>Good morning.`)."""
    blocks = ["WEBVTT\n"]
    for cue in _cues(transcript, lambda _speaker: ""):
        voice = f"<v {_escape(cue.speaker)}>" if cue.speaker else ""
        times = f"{_time(cue.start_ms, '.')} --> {_time(cue.end_ms, '.')}"
        blocks.append(f"{times}\n{voice}{_escape(chr(10).join(cue.lines))}\n")
    return "\n".join(blocks).encode()


def _srt_prefix(speaker: str | None) -> str:
    return f"{speaker}: " if speaker else ""


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def _cues(transcript: Transcript, prefix: Callable[[str | None], str]) -> list[Cue]:
    """In order of time, as WebVTT demands: who is interrupted goes on behind the interjection."""
    cues = [cue for segment in transcript.segments for cue in _cues_of(segment, prefix)]
    return sorted(cues, key=lambda cue: cue.start_ms)


def _cues_of(segment: Segment, prefix: Callable[[str | None], str]) -> Iterator[Cue]:
    speaker = _plain(segment.speaker or "") or None
    indent = _width(prefix(speaker))
    for tokens in _pages(_tokens(segment), indent):
        start_ms = round(tokens[0].start_s * 1000)
        end_s = min(tokens[-1].end_s, tokens[0].start_s + LONGEST_S)
        end_ms = max(round(end_s * 1000), start_ms + _SHORTEST_MS)
        yield Cue(start_ms, end_ms, speaker, tuple(_lines(tokens, indent)))


def _pages(tokens: list[Token], indent: int) -> Iterator[list[Token]]:
    """Group tokens into cues: as full as the rules allow, ending with a sentence where it fits."""
    page: list[Token] = []
    for token in tokens:
        if page and _page_ends(page, token, indent):
            yield page
            page = []
        page.append(token)
    if page:
        yield page


def _page_ends(page: list[Token], token: Token, indent: int) -> bool:
    lines = _lines([*page, token], indent)
    if len(lines) > LINES or token.end_s - page[0].start_s > LONGEST_S:
        return True
    # a full sentence that fills a line is not mixed with the beginning of the next
    return len(lines) == LINES and _SENTENCE_END.search(page[-1].text) is not None


def _lines(tokens: list[Token], indent: int) -> list[str]:
    lines: list[str] = []
    room = 0
    for token in tokens:
        space = "" if token.glued else " "
        width = _width(token.text)
        if lines and width + len(space) <= room:
            lines[-1] += space + token.text
            room -= width + len(space)
        else:
            room = COLUMNS - width - (0 if lines else indent)
            lines.append(token.text)
    return lines


def _tokens(segment: Segment) -> list[Token]:
    """The text's words with their times; what is longer than a line is cut into lines."""
    texts = _plain(segment.text).split()
    spans = _spans(segment, texts)
    tokens: list[Token] = []
    for text, (start, end) in zip(texts, spans, strict=True):
        pieces = _cut(text)
        step = (end - start) / len(pieces)
        for number, piece in enumerate(pieces):
            at = start + number * step
            tokens.append(Token(piece, at, at + step, glued=number > 0))
    return tokens


def _spans(segment: Segment, texts: list[str]) -> list[tuple[float, float]]:
    """Start and end of each word of the text.

    The engine's words are taken as they are when they are as many as the text's; otherwise
    (numbers written in digits, say) a word lies where its share of the letters lies.
    """
    words = segment.words
    if words and len(words) == len(texts):
        return [(word.start_s, word.end_s) for word in words]
    total = sum(map(len, texts)) or 1
    edges = [done / total for done in itertools.accumulate(map(len, texts), initial=0)]
    place = _clock(segment)
    return [(place(start), place(end)) for start, end in itertools.pairwise(edges)]


def _clock(segment: Segment) -> Callable[[float], float]:
    """From a share of the segment's letters (0 to 1) to seconds."""
    words = segment.words
    sizes = list(itertools.accumulate((len(word.text) for word in words), initial=0))
    if not words or not sizes[-1]:
        length = segment.end_s - segment.start_s
        return lambda share: segment.start_s + share * length

    def at(share: float) -> float:
        letters = share * sizes[-1]
        index = min(bisect_right(sizes, letters) - 1, len(words) - 1)
        word = words[index]
        inside = (letters - sizes[index]) / (len(word.text) or 1)
        return word.start_s + min(inside, 1.0) * (word.end_s - word.start_s)

    return at


def _cut(text: str) -> list[str]:
    """A word as it is; one that is longer than a line (Chinese, an address) in halves of lines."""
    if _width(text) <= COLUMNS:
        return [text]
    pieces = [""]
    room = COLUMNS // 2
    for character in _characters(text):
        width = _width(character)
        if width > room and pieces[-1]:
            pieces.append("")
            room = COLUMNS // 2
        pieces[-1] += character
        room -= width
    return pieces


def _characters(text: str) -> Iterator[str]:
    """What a reader takes for one: a letter with its marks, signs joined to one picture."""
    whole = ""
    for sign in text:
        joined = unicodedata.category(sign) in _MARKS or sign == _JOINER or whole.endswith(_JOINER)
        if whole and not joined:
            yield whole
            whole = ""
        whole += sign
    if whole:
        yield whole


def _plain(text: str) -> str:
    return " ".join(_CONTROL.sub("", text).split())


def _width(text: str) -> int:
    """Columns on a screen: two for Chinese, Japanese, Korean; none for marks on a letter."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(sign: str) -> int:
    if unicodedata.category(sign) in _WIDTHLESS:
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1
