"""An engine for sttd that finds where in a recording somebody speaks, by how loud it is.

It recognises no word: each segment says "[speech]". It is small enough to be read in one go and
does all that an engine must do; `detection` is what would be a speech library in another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from sttd.engines import Audio, InvalidAudioError, Segment, TranscribeOptions
from sttd_voice_activity.detection import FRAME_S, Sensitivity, frames, level_db, stretches

__all__ = ["VoiceActivity"]


class VoiceActivity:
    """Finds speech by its loudness against the background.

    Options, in `[engine.options]` for all jobs and in a sidecar's `options` for one:
    `text` ("[speech]"), and the fields of `Sensitivity`, in seconds and decibels.
    """

    name = "voice-activity"
    version = "1.0"
    start: ClassVar[Literal["fork", "spawn"]] = "fork"  # nothing here starts a thread

    def __init__(self, options: Mapping[str, object]) -> None:
        """Built once, before workers are forked: a model would be loaded here."""
        self._options = dict(options)
        self._read(self._options)  # a mistake is told when the daemon starts, not job by job

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        """Yield one segment for each stretch of speech, as soon as it has ended."""
        if options.languages:
            raise InvalidAudioError(f"{audio.name}: voice-activity knows no language")
        try:
            text, sensitivity = self._read({**self._options, **options.extra})
        except ValueError as error:  # the sender's mistake, which no other attempt would mend
            raise InvalidAudioError(f"{audio.name}: {error}") from None
        # Lazily: a chunk is read when the one before is done with. Reading is progress, and the
        # memory is that of one chunk however long the recording is.
        levels = (level_db(frame) for frame in frames(audio))
        for first, end in stretches(levels, sensitivity):
            yield Segment(
                start_s=audio.start_s + first * FRAME_S,  # not 0 when a killed job goes on
                end_s=audio.start_s + end * FRAME_S,
                text=text,
            )

    @staticmethod
    def _read(options: Mapping[str, object]) -> tuple[str, Sensitivity]:
        """The options, checked. Nobody else does it. Raises ValueError naming the option."""
        known = {"text", *Sensitivity.__dataclass_fields__}
        if unknown := options.keys() - known:
            raise ValueError(
                f"unknown option {min(unknown)!r}; known are {', '.join(sorted(known))}"
            )
        text = options.get("text", "[speech]")
        if not isinstance(text, str) or not text.strip():
            raise ValueError("text must be a text that is not empty")
        numbers = {}
        for name, value in options.items():
            if name == "text":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} must be a number")  # noqa: TRY004 (it comes from a file)
            numbers[name] = float(value)
        return text, Sensitivity(**numbers)
