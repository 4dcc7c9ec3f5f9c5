"""The Azure engine: ConversationTranscriber of the real Speech SDK, one recording at a time.

This module is light: the SDK (some 30 MiB, 0.2 s) is imported when the engine is built, in the
template, so that the credential helper beside it needs none of it. The way in is `AzureEngine`;
`conversation` is a job's course, `errors` has the table of what goes wrong.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from sttd.engines import Audio, Segment, TranscribeOptions
from sttd.engines.azure.settings import Settings, for_job, read_settings
from sttd.engines.azure.sources import Source, source_for

__all__ = ["AzureEngine"]

DISTRIBUTION = "azure-cognitiveservices-speech"


class AzureEngine:
    """Built once, before workers are forked: it imports the SDK and creates none of its objects.

    Raises SettingsError (a ValueError) for a bad `[engine.azure]`, ImportError without the SDK.
    """

    name = "azure"
    start: ClassVar[Literal["fork", "spawn"]] = "fork"  # the import starts no thread: tested

    def __init__(self, options: Mapping[str, object]) -> None:
        self.settings: Settings = read_settings(options)
        self.version = importlib.metadata.version(DISTRIBUTION)
        self._source: Source | None = None  # a worker's, never the template's
        self._conversation = importlib.import_module("sttd.engines.azure.conversation")

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        """Yield final segments in order of time; raises the errors of `sttd.engines`."""
        job = for_job(self.settings, options)
        if self._source is None:
            self._source = source_for(self.settings)
        wished = job != self.settings
        yield from self._conversation.Conversation(
            job, self._source, audio, wished=wished, log=options.log
        ).segments()

    def handles(self) -> dict[str, int]:
        """Live native objects of the SDK by type; see `counting`."""
        counting = importlib.import_module("sttd.engines.azure.counting")
        found: dict[str, int] = counting.alive()
        return found
