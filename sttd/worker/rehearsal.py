"""What is made on first use is made once, in the template, so that its children inherit it.

msgspec reads a message's annotations when it first meets its type, and PyAV and FFmpeg set
themselves up with the first recording: together 10 to 20 ms of CPU, which every fresh worker would
otherwise spend in its first job. Runs no engine, opens no file, starts no thread.
"""

from __future__ import annotations

import os
import resource
import socket

from sttd import layouts
from sttd.engines import SAMPLE_RATE, Segment, Word
from sttd.transcripts import EngineInfo, Source, Transcript
from sttd.wire.messages import Decode, DecodeLimits, FromDecoder, ToWorker
from sttd.worker.channel import Channel, decoder_of

__all__ = ["rehearse_decoding", "rehearse_job"]

SILENCE = bytes(SAMPLE_RATE // 10 * 2)  # a tenth of a second
HEADER = (
    b"RIFF\xa4\x0c\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"
    b"\x80>\x00\x00\x00}\x00\x00\x02\x00\x10\x00data\x80\x0c\x00\x00"
)


def rehearse_job() -> None:
    """What a worker makes use of before, around and after its engine."""
    for one in (ToWorker, FromDecoder):
        decoder_of(one)
    word = Word(start_s=0.0, end_s=0.1, text="rehearsal")
    segment = Segment(start_s=0.0, end_s=0.1, text=word.text, words=(word,))
    transcript = Transcript(
        job_id="",
        source=Source(name="rehearsal.wav", sha256="", bytes=0, duration_s=0.1),
        engine=EngineInfo(name="none", version="0"),
        languages=(),
        created="1970-01-01T00:00:00.000Z",
        text=segment.text,
        attempts=1,
        resumed_at_s=(),
        segments=tuple(layouts.clamp([segment], 0.1)[0]),
    )
    for layout in layouts.FORMATS:
        layouts.render(layout, transcript)


def rehearse_decoding() -> None:
    """Decode a little silence, start to end, as a decoder does for its worker."""
    from sttd.worker import decoder  # noqa: PLC0415 (the decoders' template alone has FFmpeg)

    budget = resource.getrlimit(resource.RLIMIT_CPU)  # each recording is granted one of its own
    ours, theirs = socket.socketpair()
    audio = os.memfd_create("rehearsal", os.MFD_CLOEXEC)
    reading, writing = os.pipe()
    try:
        os.write(audio, HEADER + SILENCE)
        limits = DecodeLimits(max_duration_s=1.0, max_channels=1)
        order = Decode(name="rehearsal.wav", start_s=0.0, limits=limits)
        Channel[FromDecoder](ours, FromDecoder).send(order, (audio, writing))
        ours.shutdown(socket.SHUT_WR)  # nothing more to come: `serve` returns
        decoder.serve(theirs)
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, budget)
        for sock in (ours, theirs):
            sock.close()
        for fd in (audio, reading, writing):
            os.close(fd)
