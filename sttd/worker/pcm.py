"""Any recording to mono signed 16-bit little-endian 16 kHz PCM, as a stream (FFmpeg by PyAV).

The only module that hands foreign bytes to FFmpeg. It trusts no header: demuxers, codecs and
protocols are allow-listed (FFmpeg picks by content: a playlist called a.wav would open other
files and URLs), and limits are held against what was decoded. Memory does not depend on length,
no thread is started. Samples follow one another as decoded: gaps in a container's time stamps are
not filled, so the same file always gives the same samples, from wherever one starts.

Damage: a packet that cannot be decoded is skipped, and a recording that breaks off is taken as
far as it goes, as every player does; `damage` says so. It is refused when nothing was decoded
although there was something to decode.

It opens no file: it is given a descriptor. It writes nothing and knows no process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import av

# PyAV imports these when it first meets such a stream: by then no file can be opened any more.
import av.audio.codeccontext
import av.error
import av.logging
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
import av.video.stream
import msgspec
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from sttd.engines import SAMPLE_RATE
from sttd.wire.messages import DecodeLimits, Probed
from sttd.worker.resampling import Mono
from sttd.worker.stream import EXACT_LENGTH, UndecodableError

MIN_RATE = 1_000  # Hz; at 1 Hz a few bytes would become hours
MAX_RATE = 384_000
SIGN_OF_LIFE = 1e-6
DISCREPANCY_S = 1.0  # more than this missing at the end is damage

UNKNOWN_SIZE = 0x7FFF0000  # from here on a WAV's size says: written as a stream, length unknown

# By FFmpeg's names. Containers that hold their audio themselves, nothing that refers to others.
DEMUXERS = "wav,w64,aiff,au,caf,mp3,flac,ogg,mov,mp4,m4a,3gp,matroska,webm,aac,amr,asf"
# Every decoder that FFmpeg may open, and so nothing that decodes pictures.
CODECS = (
    "aac,aac_fixed,aac_latm,ac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_yamaha,alac,amrnb,"
    "amrwb,eac3,flac,g722,g726,g726le,gsm,gsm_ms,libopencore_amrnb,libopencore_amrwb,libopus,"
    "libspeex,libvorbis,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,pcm_alaw,pcm_f32be,"
    "pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,"
    "pcm_s32be,pcm_s32le,pcm_s8,pcm_u8,speex,truespeech,vorbis,wmalossless,wmapro,wmav1,"
    "wmav2,wmavoice"
)
CODEC_NAMES = frozenset(CODECS.split(","))
OPTIONS = {
    "protocol_whitelist": "fd",
    "format_whitelist": DEMUXERS,
    "codec_whitelist": CODECS,
    # a WAV's samples need not be searched for a DTS stream: that alone costs 5 ms a file
    "max_probe_packets": "1",
    # of a WAV or W64: its own are a sixteenth of a second, and each has its price
    "max_size": "32768",
}

# Told apart by their first bytes: asking FFmpeg's 300 demuxers costs a third of a millisecond.
SIGNATURES = (
    (re.compile(rb"RIFF....WAVE", re.DOTALL), "wav"),
    (re.compile(rb"fLaC"), "flac"),
    (re.compile(rb"OggS"), "ogg"),
)

# FFmpeg's log goes nowhere, but its last error is in the exception: "moov atom not found"
av.logging.set_level(av.logging.PANIC)


class Recording:
    """One open recording; a context manager. `probed` tells what its header says.

    `fd` stays the caller's. Raises UndecodableError.
    """

    def __init__(self, fd: int, limits: DecodeLimits) -> None:
        self._limits = limits
        self._samples = 0  # given out or skipped, at 16 kHz
        self._packets = 0
        self._errors = 0
        self._first_error = ""
        self._missing = _missing_bytes(fd)
        if os.fstat(fd).st_size == 0:
            raise UndecodableError("the file is empty", "empty")
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            self._container = av.open(
                "fd:",
                mode="r",
                format=_format(fd),
                options={"fd": str(fd), **OPTIONS},
                metadata_errors="replace",
            )
        except av.error.FFmpegError as error:
            raise UndecodableError(f"it cannot be opened as audio: {_explain(error)}") from error
        try:
            self._stream = self._choose()
            self.probed = self._probe()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def position_s(self) -> float:
        """Seconds decoded so far, from the recording's start; in the end its duration."""
        return self._samples / SAMPLE_RATE

    @property
    def damage(self) -> str:
        """What could not be decoded, in one line; empty when all was well. Whole at the end."""
        if self._errors:
            return f"damaged in {self._errors} places; the first: {self._first_error}"
        if self._missing:
            return f"the file is {self._missing} bytes shorter than its header says"
        claimed = self.probed.duration_s or 0.0
        if self._exact and claimed - self.position_s > DISCREPANCY_S:
            return f"it ends after {self.position_s:.1f} s of the {claimed:.1f} s in its header"
        return ""

    def close(self) -> None:
        """Let go of FFmpeg's memory."""
        self._container.close()

    def pcm(
        self, start_s: float = 0.0, on_skip: Callable[[float], None] | None = None
    ) -> Iterator[bytes]:
        """Chunks of at most 64 KiB from `start_s` on; iterate once.

        What comes before is decoded and discarded, so that the samples are exactly those that a
        reading from the start gives; meanwhile `on_skip(position_s)` is called for each chunk.
        Raises UndecodableError, also in the middle (too_long).
        """
        skip = round(start_s * SAMPLE_RATE) * 2
        for chunk in self._chunks():
            self._samples += len(chunk) // 2
            if self.position_s > self._limits.max_duration_s:
                longest = f"{self._limits.max_duration_s:g} s"
                raise UndecodableError(f"it is longer than max_duration ({longest})", "too_long")
            if skip:
                rest = chunk[skip:]
                skip -= min(skip, len(chunk))
                if on_skip is not None:
                    on_skip(self.position_s)
                if rest:
                    yield rest
            else:
                yield chunk
        self._judge_silence()

    def _chunks(self) -> Iterator[bytes]:
        mono = Mono(self._check)
        for frame in self._frames():
            yield from mono.feed(frame)
        yield from mono.flush()

    def _frames(self) -> Iterator[AudioFrame]:
        try:
            for packet in self._container.demux(self._stream):
                self._packets += bool(packet.size)  # the last one, empty, flushes the decoder
                try:
                    frames = packet.decode()
                except av.error.FFmpegError as error:
                    self._note(error)
                    continue
                for frame in frames:
                    assert isinstance(frame, AudioFrame)
                    yield frame
        except av.error.FFmpegError as error:  # the container itself breaks off
            self._note(error)

    def _note(self, error: av.error.FFmpegError) -> None:
        if isinstance(error, EOFError):
            return  # said by decoders that had been flushed before
        self._errors += 1
        self._first_error = self._first_error or _explain(error)

    def _judge_silence(self) -> None:
        """No sample at all: fine for a recording that is truly empty, else it is broken."""
        if self._samples:
            return
        if self._packets or self._errors or (self._exact and self.probed.duration_s):
            reason = self._first_error or "its data are missing"
            raise UndecodableError(f"nothing in it could be decoded: {reason}")

    def _choose(self) -> AudioStream:
        if not self._container.streams.audio:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams}))
            raise UndecodableError(f"it has no audio stream ({kinds or 'nothing'})", "no_audio")
        stream = self._container.streams.audio[0]
        context = stream.codec_context
        # mypy takes it for granted; PyAV gives None where FFmpeg has no decoder
        if context is None or context.name not in CODEC_NAMES:
            name = getattr(context, "name", "unknown")
            raise UndecodableError(f"its audio is of a kind that is not accepted ({name})")
        context.thread_count = 1
        context.thread_type = "NONE"
        self._check(context.layout.nb_channels, context.sample_rate)
        return stream

    def _check(self, channels: int, rate: int) -> None:
        """Raises UndecodableError; asked of the header, and whenever decoded frames change."""
        if channels > self._limits.max_channels:
            raise UndecodableError(
                f"it has {channels} channels; max_channels is {self._limits.max_channels}",
                "too_many_channels",
            )
        if not MIN_RATE <= rate <= MAX_RATE:
            raise UndecodableError(
                f"its sample rate is {rate} Hz; {MIN_RATE} to {MAX_RATE} are accepted"
            )

    def _probe(self) -> Probed:
        stream, container = self._stream, self._container
        duration: float | None = None
        if stream.duration and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        elif container.duration:
            duration = container.duration / av.time_base
        return Probed(
            duration_s=duration if duration and duration > 0 else None,
            format=container.format.name.partition(",")[0],
            codec=stream.codec_context.name,
        )

    @property
    def _exact(self) -> bool:
        return self.probed.format in EXACT_LENGTH


def _format(fd: int) -> str | None:
    start = os.pread(fd, 12, 0)
    return next((name for signature, name in SIGNATURES if signature.match(start)), None)


def _missing_bytes(fd: int) -> int:
    """How much of a WAV was never written; FFmpeg itself says nothing of it."""
    start = os.pread(fd, 8, 0)
    if not start.startswith(b"RIFF") or len(start) < 8:
        return 0
    claimed = int.from_bytes(start[4:], "little")
    known = claimed < UNKNOWN_SIZE
    return max(claimed + 8 - os.fstat(fd).st_size, 0) if known else 0


def _explain(error: av.error.FFmpegError) -> str:
    """One line for people: FFmpeg's error and, where it logged one, the reason."""
    text = str(error.strerror or type(error).__name__)
    if error.log:
        text = f"{text}: {error.log[-1]}"  # (level, who, message)
    return " ".join(text.split())[:300]


def open_recording(
    fd: int, limits: DecodeLimits, on_skip: Callable[[float], None] | None = None
) -> Recording:
    """A Recording that does not turn out too long after an engine was paid for half of it.

    Where the header claims more than the limit, the recording is decoded once to see whether that
    is true (headers lie both ways), with `on_skip` for each chunk: a sign of life that stays below
    the positions of the reading to come, so that progress never runs backwards. Raises
    UndecodableError.
    """
    recording = Recording(fd, limits)
    if (recording.probed.duration_s or 0.0) <= limits.max_duration_s:
        return recording
    with recording:
        for _ in recording.pcm():
            if on_skip is not None:
                on_skip(recording.position_s * SIGN_OF_LIFE)
    honest = Recording(fd, limits)
    honest.probed = msgspec.structs.replace(honest.probed, duration_s=recording.position_s)
    return honest
