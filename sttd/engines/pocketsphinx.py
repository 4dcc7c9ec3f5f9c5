"""The engine `pocketsphinx`: real recognition on this machine, no network, no account.

The model is loaded when the engine is built, in the template, and shared by the workers forked
from it. Accuracy is that of its day: it serves demonstrations, tests, and words to search for.
Knows nothing of processes; where speech pauses is the business of `pauses`.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import msgspec
from pocketsphinx import Decoder, Vad, get_model_path

from sttd.engines import (
    BYTES_PER_SECOND,
    SAMPLE_RATE,
    Audio,
    InvalidAudioError,
    Segment,
    TranscribeOptions,
    Word,
)
from sttd.engines.pauses import FRAME_MS, Pauses

__all__ = ["ModelError", "PocketSphinx"]

SHIPPED = "en-us"  # the model inside the wheel
FRAMES_PER_SECOND = 100  # the decoder's, its parameter "frate"

# Measured on five LibriVox recordings: more than 5,000 active HMMs (the default is 30,000) bring
# no word right, fewer than 3,000 lose some; 5,000 take a fifth less time.
MAX_HMMS = 5000
# How much of an utterance its cepstral mean is taken from. Word error rate of these recordings
# with the mean of the first 1, 2, 3, 5 s: 0.38, 0.35, 0.32, 0.30; of the whole utterance: 0.30.
OPENING_BYTES = 5 * BYTES_PER_SECOND
# What the decoder is given at once: it holds the interpreter's lock meanwhile, and signals wait.
SLICE_BYTES = BYTES_PER_SECOND // 4
# The name of a search for one word that need not be in the recording: it costs a twentieth of
# recognition, and the cepstral mean falls out of it.
MEAN = "mean"

_VARIANT = re.compile(r"\(\d+\)$")  # "was(2)": the second pronunciation of "was"


class ModelError(ValueError):
    """The model cannot be loaded; the message names the option, the path and the remedy."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[engine.pocketsphinx]` section.

    `model` is "en-us" or the absolute path of a folder that has, at any depth, one acoustic model
    for 16 kHz (a folder with a file `mdef`), one language model (`*.lm`, `*.lm.bin`) and one
    dictionary (`*.dict`, `*.dic`).
    """

    model: str = SHIPPED


class PocketSphinx:
    """Recognises speech on this machine with CMU PocketSphinx and its US English model.

    Raises ModelError when the configured model cannot be loaded. With the shipped model a job's
    `languages` must be English; a model of one's own is taken to be the right one. `diarization`,
    `phrases` and `profanity` are beyond it and are ignored; there are no options per job.
    """

    name = "pocketsphinx"
    version = importlib.metadata.version("pocketsphinx")
    start: ClassVar[Literal["fork", "spawn"]] = "fork"  # a loaded decoder has no thread: tested

    def __init__(self, options: Mapping[str, object]) -> None:
        try:
            model = msgspec.convert(dict(options), Settings).model
        except msgspec.ValidationError as error:
            raise ModelError(f"[engine.pocketsphinx]: {error}") from error
        self.languages = ("en-US",) if model == SHIPPED else ()
        self._recogniser = _Recogniser(_load(find_model(model), model))

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        """Yield a segment for each utterance with words, when the pause after it was heard.

        `confidence` is the mean of the words' posterior probabilities in the word lattice, each
        weighted by its length in time. Reads `audio` in step with the recognition. The result
        does not depend on what was recognised before.
        Raises InvalidAudioError for a language that the model does not speak.
        """
        self._check(audio, options)
        # A detector for every job, since it adapts to what it hears. Not pocketsphinx.Endpointer,
        # which could do the work of Pauses: each leaks 19 KB (5.1.1), a Vad leaks 0.8 KB.
        vad = Vad(Vad.MEDIUM_STRICT, SAMPLE_RATE, FRAME_MS / 1000)
        utterance: _Utterance | None = None
        for piece in Pauses(vad.is_speech).pieces(audio):
            if utterance is None:
                utterance = _Utterance(self._recogniser)
                start_s = audio.start_s + piece.at / SAMPLE_RATE
            utterance.hear(piece.pcm)
            if piece.last:
                words = utterance.end()
                utterance = None
                if words:
                    yield self._segment(words, start_s)

    def _check(self, audio: Audio, options: TranscribeOptions) -> None:
        if options.extra:
            raise InvalidAudioError(
                f"{audio.name}: options.{next(iter(options.extra))}: the engine pocketsphinx has "
                "no options per job; remove it"
            )
        if not self.languages:
            return
        for language in options.languages:
            if language.lower().split("-")[0] != "en":
                raise InvalidAudioError(
                    f'{audio.name}: languages = ["{language}"], but the model of the engine '
                    "pocketsphinx speaks English; leave the option out, or set model in "
                    "[engine.pocketsphinx] to the folder of a model that speaks it"
                )

    def _segment(self, heard: list[_Heard], offset_s: float) -> Segment:
        words = tuple(
            Word(
                start_s=_ms(offset_s + each.start_s),
                end_s=_ms(offset_s + each.end_s),
                text=each.text,
            )
            for each in heard
        )
        weights = [each.end_s - each.start_s for each in heard]
        certain = sum(each.posterior * w for each, w in zip(heard, weights, strict=True))
        return Segment(
            start_s=words[0].start_s,
            end_s=words[-1].end_s,
            text=" ".join(word.text for word in words),
            language=self.languages[0] if self.languages else None,
            confidence=round(min(certain / sum(weights), 1.0), 4),
            words=words,
        )


def _ms(seconds: float) -> float:
    """Whole milliseconds, never beyond the recording's end."""
    return math.floor(seconds * 1000 + 1e-6) / 1000


# -- recognition -------------------------------------------------------------------------------
class _Heard(NamedTuple):
    """A word; seconds from the start of the utterance, and how sure the decoder is of it."""

    text: str
    start_s: float
    end_s: float
    posterior: float


class _Recogniser:
    """The decoder, in the same state at the start of every utterance."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._decoder.add_keyphrase(MEAN, "hello")
        self._busy = False

    def begin(self, opening: bytes) -> None:
        """Start an utterance whose first seconds are `opening`; they still have to be fed."""
        decoder = self._decoder
        if self._busy:  # left by a job that broke off: ended only now, as that may take a second
            decoder.end_utt()
        self._busy = True
        # forgets means and noise levels; takes 0.2 ms
        decoder.reinit_feat()
        decoder.activate_search(MEAN)
        decoder.start_utt()
        decoder.process_raw(opening, full_utt=True)
        decoder.end_utt()
        mean = decoder.get_cmn()
        decoder.activate_search()
        decoder.reinit_feat()
        decoder.set_cmn(mean)
        decoder.start_utt()

    def feed(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), SLICE_BYTES):
            self._decoder.process_raw(pcm[start : start + SLICE_BYTES])

    def end(self, length_s: float) -> list[_Heard]:
        """End an utterance of this length: its words, without silence, noise and variants."""
        self._decoder.end_utt()
        self._busy = False
        return [
            _Heard(
                _VARIANT.sub("", each.word),
                min(each.start_frame / FRAMES_PER_SECOND, length_s),
                min((each.end_frame + 1) / FRAMES_PER_SECOND, length_s),
                min(max(each.prob, 0.0), 1.0),  # sums of rounded logarithms exceed 1 by a little
            )
            for each in self._decoder.seg() or ()
            if not each.word.startswith(("<", "[", "+"))
        ]


class _Utterance:
    """Holds back the opening of an utterance until its mean can be taken."""

    def __init__(self, recogniser: _Recogniser) -> None:
        self._recogniser = recogniser
        self._opening: bytearray | None = bytearray()
        self._bytes = 0

    def hear(self, pcm: bytes) -> None:
        self._bytes += len(pcm)
        if self._opening is None:
            self._recogniser.feed(pcm)
            return
        self._opening += pcm
        if len(self._opening) >= OPENING_BYTES:
            self._open()

    def end(self) -> list[_Heard]:
        self._open()
        return self._recogniser.end(self._bytes / BYTES_PER_SECOND)

    def _open(self) -> None:
        if self._opening is None:
            return
        opening, self._opening = bytes(self._opening), None
        self._recogniser.begin(opening)
        self._recogniser.feed(opening)


# -- the model ---------------------------------------------------------------------------------
class ModelFiles(NamedTuple):
    """What a decoder is made of."""

    acoustic: Path  # a folder
    language_model: Path
    dictionary: Path


def find_model(model: str) -> ModelFiles:
    """The files of the shipped model or of a folder; see `Settings`. Raises ModelError."""
    folder = Path(get_model_path(SHIPPED)) if model == SHIPPED else Path(model)
    if not folder.is_absolute():
        raise ModelError(
            f'[engine.pocketsphinx] model = "{model}": write "{SHIPPED}" or the absolute path of '
            "a model's folder"
        )
    if not folder.is_dir():
        raise ModelError(f'[engine.pocketsphinx] model = "{model}": {folder} is no folder')
    return ModelFiles(
        _the_only(folder, ("mdef",), "acoustic model (a folder with a file mdef)").parent,
        _the_only(folder, ("*.lm", "*.lm.bin"), "language model (*.lm, *.lm.bin)"),
        _the_only(folder, ("*.dict", "*.dic"), "dictionary (*.dict, *.dic)"),
    )


def _the_only(folder: Path, patterns: tuple[str, ...], what: str) -> Path:
    found = [path for pattern in patterns for path in folder.rglob(pattern)]
    # a phonetic language model lies beside the real one in CMU's packages
    found = sorted(path for path in found if "-phone." not in path.name)
    if len(found) != 1:
        count = " and ".join(str(path.relative_to(folder)) for path in found) or "none"
        raise ModelError(f"[engine.pocketsphinx] model: {folder} needs one {what}, and has {count}")
    return found[0]


def _load(files: ModelFiles, model: str) -> Decoder:
    parts = {
        "hmm": str(files.acoustic),
        "lm": str(files.language_model),
        "dict": str(files.dictionary),
        "maxhmmpf": MAX_HMMS,
    }
    if model != SHIPPED:
        _rehearse(parts, model)
    try:
        return Decoder(**parts, loglevel="FATAL")  # and nothing is written to our output
    except (RuntimeError, ValueError) as error:
        raise ModelError(f'[engine.pocketsphinx] model = "{model}": {error}') from error


def _rehearse(parts: Mapping[str, object], model: str) -> None:
    """Load a stranger's model in a process of its own: the library exits on some damages."""
    code = "import json, sys, pocketsphinx; pocketsphinx.Decoder(**json.loads(sys.argv[1]))"
    wanted = json.dumps({**parts, "loglevel": "ERROR"})
    tried = subprocess.run(
        [sys.executable, "-c", code, wanted],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if tried.returncode != 0:
        lines = tried.stderr.decode(errors="replace").splitlines()
        reason = lines[0].strip() if lines else f"it ended with {tried.returncode}"
        raise ModelError(f'[engine.pocketsphinx] model = "{model}" cannot be loaded: {reason}')
