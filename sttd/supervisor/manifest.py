"""Reads the manifest of a finished transcript: whose it is, and what the ledger wants of it.

The manifest is `<stem>.json`; it is written and published last, so where it stands everything
stands. Reads only what is needed; a transcript of hours costs milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec


class ManifestSource(msgspec.Struct, frozen=True):
    """The recording it was made from."""

    name: str = ""  # printable
    bytes: int = 0
    sha256: str | None = None
    duration_s: float | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What proves that a job is done."""

    schema: Literal["sttd.transcript/1"]
    job_id: str
    attempts: int
    source: ManifestSource = ManifestSource()
    segments: list[msgspec.Raw] = []


_decoder = msgspec.json.Decoder(Manifest)


def read_manifest(path: str | Path) -> Manifest | None:
    """The manifest at `path`; None when there is none, or something else, or half of one."""
    try:
        with open(path, "rb") as file:
            return _decoder.decode(file.read())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
