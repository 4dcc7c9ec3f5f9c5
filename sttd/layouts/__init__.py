"""A transcript's published layouts: json, txt, srt, vtt, azure.

Values to bytes. Nothing here reads or writes a file, or changes what was recognised; what an
engine got wrong about times is put right beforehand by `clamp`.
"""

from __future__ import annotations

from collections.abc import Callable

from sttd.layouts.azure import azure
from sttd.layouts.clamping import as_text, clamp, segments_in
from sttd.layouts.plain import manifest, txt
from sttd.layouts.subtitles import srt, vtt
from sttd.transcripts import Transcript

__all__ = ["FORMATS", "as_text", "clamp", "file_name", "render", "segments_in"]

_LAYOUTS: dict[str, tuple[str, Callable[[Transcript], bytes]]] = {
    "json": (".json", manifest),
    "txt": (".txt", txt),
    "srt": (".srt", srt),
    "vtt": (".vtt", vtt),
    "azure": (".azure.json", azure),
}
FORMATS = tuple(_LAYOUTS)


def render(format: str, transcript: Transcript) -> bytes:  # noqa: A002 - the field's own word
    """The transcript as the bytes of one file; raises ValueError for a format that is not known."""
    return _layout(format)[1](transcript)


def file_name(format: str, stem: str) -> str:  # noqa: A002 - the field's own word
    """How that file is called: ("azure", "a/meeting") gives "a/meeting.azure.json"."""
    return stem + _layout(format)[0]


def _layout(name: str) -> tuple[str, Callable[[Transcript], bytes]]:
    try:
        return _LAYOUTS[name]
    except KeyError:
        raise ValueError(f"no layout {name!r}; there are {', '.join(FORMATS)}") from None
