"""A job's options as users write them: in a sidecar, in a submission; strict, bounded, pure.

The one schema behind `meeting.wav.json`, the `options` of a submission and what a worker is
handed. It names languages and wishes, never paths, URLs or model files. Reads no file, and knows
no engine: `options` holds the engine's own, as the sender wrote them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_BYTES = 64 * 1024  # of a sidecar
PRIORITY_MIN, PRIORITY_MAX = -1000, 1000

# A language tag as BCP 47 shapes it: en, en-US, zh-Hans-CN, wuu-CN.
Language = Annotated[str, Meta(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", max_length=35)]
Phrase = Annotated[str, Meta(min_length=1, max_length=400)]


class OptionsError(ValueError):
    """The options are not valid; the message names the source, the field and the remedy."""


class JobOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job's wishes; what is left out is as configured.

    `priority`: higher goes first. `phrases` are hints of words to expect. `options` go to the
    engine as they are. `sdk_log`: keep what the engine's library logs of this job.
    """

    languages: Annotated[tuple[Language, ...], Meta(max_length=32)] = ()
    priority: Annotated[int, Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)] = 0
    diarization: bool | None = None
    phrases: Annotated[tuple[Phrase, ...], Meta(max_length=1000)] = ()
    profanity: Literal["masked", "removed", "raw"] | None = None
    options: dict[str, Any] = {}
    sdk_log: bool = False


_decoder = msgspec.json.Decoder(JobOptions)
_UNKNOWN = re.compile(r"unknown field `(.*?)`")


def decode(data: bytes | str, source: str = "options", size: int | None = None) -> JobOptions:
    """The options in this JSON; `source` is the file (or request) to name in the message.

    `size` is that of the file, where no more than a little beyond MAX_BYTES was read of it.
    Raises OptionsError. A byte order mark, as some editors write it, is forgiven.
    """
    raw = data.encode() if isinstance(data, str) else data
    if len(raw) > MAX_BYTES:
        raise OptionsError(f"{source}: {size or len(raw)} bytes; at most {MAX_BYTES} are read")
    text = raw.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise OptionsError(f"{source}: it is empty; write a JSON object, or take it away")
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionsError(f"{source}: {_plain(error)}") from error


def convert(given: Mapping[str, object], source: str = "options") -> JobOptions:
    """The options in this mapping, as a submission carries them; raises OptionsError."""
    try:
        return decode(msgspec.json.encode(given), source)
    except (TypeError, UnicodeEncodeError) as error:
        raise OptionsError(f"{source}: {error}") from error


def encode(options: JobOptions) -> str:
    """The options as JSON in one canonical form; `decode` gives the same back."""
    return msgspec.json.encode(options, order="sorted").decode()


def _plain(error: Exception) -> str:
    """What is wrong in a sentence, with the nearest known key where one was mistyped."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    text = str(error)
    unknown = _UNKNOWN.search(text)
    if unknown is None:
        return text
    known = list(JobOptions.__struct_fields__)
    near = difflib.get_close_matches(unknown.group(1), known, n=1)
    remedy = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
    return f"{text}; {remedy}"
