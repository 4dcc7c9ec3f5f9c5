"""Tiny engines for tests of the machinery around engines."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Mapping

import msgspec

from sttd.engines import Audio, Segment, ThrottledError, TranscribeOptions, Word


class Echo:
    """Says how long each second of the recording is."""

    name = "echo"
    version = "1"
    start = "fork"

    def __init__(self, options: Mapping[str, object]) -> None:
        self.options = options

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        heard = 0
        for chunk in audio:
            heard += len(chunk)
        if options.extra.get("segfault"):
            os.kill(os.getpid(), 11)
        if options.extra.get("hang"):
            print(f"{audio.name} hangs")  # noqa: T201 (tests wait for it)
        while options.extra.get("hang"):
            time.sleep(0.05)
        seconds = heard / 32000
        yield Segment(start_s=audio.start_s, end_s=audio.start_s + seconds, text=f"{heard} bytes")


class Unmoved(Echo):
    """Takes being told to leave for the end of its work: it returns, as a generator may."""

    name = "unmoved"

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        yield from super().transcribe(audio, options)
        print(f"{audio.name} waits")  # noqa: T201 (tests wait for it)
        try:
            while options.extra.get("wait"):
                time.sleep(0.05)
        except GeneratorExit:
            print(f"{audio.name} is left")  # noqa: T201 (tests wait for it)
            yield Segment(start_s=audio.start_s, end_s=audio.start_s + 0.1, text="half a sent")


class Careless(Echo):
    """Says what is no text, and asks for a pause as a header would put it."""

    name = "careless"

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        yield Segment(start_s=0.0, end_s=0.1, text="half \ud800", speaker="\udcff")
        if options.extra.get("raise"):
            raise ThrottledError("no such file: 'caf\udce9.wav'", "12")  # type: ignore[arg-type]
        yield from super().transcribe(audio, options)


GOOD = Segment(start_s=0.0, end_s=0.5, text="good")
WRONG: dict[str, object] = {
    "a text": "no segment at all",
    "a tuple": (0.0, 1.0, "no segment at all"),
    "text": {"text": None},
    "number": {"text": 5},
    "bytes": {"text": b"bytes"},
    "end_s": {"end_s": None},
    "start_s": {"start_s": "0"},
    "speaker": {"speaker": 1},
    "confidence": {"confidence": "high"},
    "words": {"words": None},
    "word": {"words": ({"start_s": 0.0, "end_s": 1.0, "text": "a word"},)},
    "object": {"start_s": object()},
}


def wrong(kind: str) -> Segment:
    """What no engine may yield, of the kinds in WRONG."""
    made = WRONG[kind]
    if isinstance(made, dict):
        return msgspec.structs.replace(GOOD, **made)
    return made  # type: ignore[return-value]  # that is what is wrong with it


class Mistaken(Echo):
    """Yields what is no segment, after one that is."""

    name = "mistaken"

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        for _ in audio:
            pass
        if options.extra.get("good"):
            yield GOOD
        yield wrong(str(options.extra["wrong"]))


class Overrunning(Echo):
    """Once tells an end far beyond what it was given, and fails."""

    name = "overrunning"

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        if audio.start_s == 0:
            next(iter(audio))
            yield Segment(start_s=0.0, end_s=9e9, text="begun")
            raise RuntimeError("this is where it breaks off")
        yield from super().transcribe(audio, options)


class Deaf(Echo):
    """Reads the recording itself, and asks for none of the samples."""

    name = "deaf"

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        del options
        with open(audio.path, "rb") as file:
            size = len(file.read())
        word = Word(start_s=2.0, end_s=2.5, text="bytes")
        yield Segment(start_s=0.5, end_s=1.0, text=f"{size}")
        yield Segment(start_s=2.0, end_s=2.5, text="bytes", words=(word,))


class Chatty(Echo):
    """Prints, by Python and below it, as many lines as the job's options say."""

    name = "chatty"

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        lines = options.extra.get("lines", 0)
        for number in range(lines if isinstance(lines, int) else 0):
            print(f"{audio.name} by Python {number}")  # noqa: T201 (what it is for)
            os.write(2, f"{audio.name} by a library {number}\n".encode())
        yield from super().transcribe(audio, options)


class Spawned(Echo):
    """The same, for which forking is not allowed."""

    name = "spawned"
    start = "spawn"


class Versioned:
    """Knows its version when it is built, and cannot be forked."""

    name = "versioned"
    start = "spawn"

    def __init__(self, options: Mapping[str, object]) -> None:
        del options
        self.version = "1.2"

    def transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        return Echo({}).transcribe(audio, options)


class Unconnected(Echo):
    """Loses a connection of its own before the first job."""

    def begin_worker(self) -> None:
        raise ConnectionResetError("the model server hung up")


class Threaded(Echo):
    """Starts a thread where it must not."""

    def __init__(self, options: Mapping[str, object]) -> None:
        super().__init__(options)
        threading.Thread(target=threading.Event().wait, name="stray", daemon=True).start()


class Childless(Echo):
    """The kernel refuses processes to every child of its template, as at a limit of tasks."""

    def __init__(self, options: Mapping[str, object]) -> None:
        super().__init__(options)
        template, fork = os.getpid(), os.fork

        def refuse() -> int:
            if os.getpid() != template:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return fork()

        os.fork = refuse


class Broken(Echo):
    """Cannot be built."""

    def __init__(self, options: Mapping[str, object]) -> None:
        super().__init__(options)
        raise RuntimeError("the model is missing")
