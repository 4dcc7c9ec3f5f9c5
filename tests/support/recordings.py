"""Recordings in every container, made by PyAV: tones, silence, pictures beside the sound."""

from __future__ import annotations

import array
import functools
import itertools
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import av
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

HERTZ = 440.0
LOUD = 8000  # amplitude, of 32768
BLOCK = 4096  # samples


class Kind(NamedTuple):
    """A kind of recording: FFmpeg's names for container, encoder and sample format."""

    suffix: str
    container: str
    encoder: str
    sample_format: str = "s16"
    rate: int = 44_100
    layout: str = "stereo"
    bit_rate: int = 128_000  # where it means something


KINDS = (
    Kind("wav", "wav", "pcm_s16le"),
    Kind("mp3", "mp3", "libmp3lame", "s16p"),
    Kind("flac", "flac", "flac"),
    Kind("ogg", "ogg", "vorbis", "fltp"),
    Kind("opus", "ogg", "libopus", "s16", 48_000),
    Kind("m4a", "ipod", "aac", "fltp"),
    Kind("mp4", "mp4", "aac", "fltp"),
    Kind("webm", "webm", "libopus", "s16", 48_000),
    Kind("aac", "adts", "aac", "fltp"),
    Kind("amr", "amr", "libopencore_amrnb", "s16", 8_000, "mono", 12_200),
    Kind("wma", "asf", "wmav2", "fltp"),
)
BY_SUFFIX = {kind.suffix: kind for kind in KINDS}
PLAIN_WAV = Kind("wav", "wav", "pcm_s16le", "s16", 16_000, "mono")
PLAIN_FLAC = Kind("flac", "flac", "flac", "s16", 16_000, "mono")


def record(
    path: Path,
    seconds: float,
    kind: Kind = PLAIN_WAV,
    *,
    silent: bool = False,
    pictures: str = "",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a tone of 440 Hz (or silence); with `pictures`, that encoder's video comes first."""
    with av.open(str(path), "w", format=kind.container, options=options or {}) as container:
        video = None
        if pictures:
            video = cast("VideoStream", container.add_stream(pictures, rate=10))
            video.width, video.height, video.pix_fmt = 64, 64, _pixels(pictures)
        audio = cast("AudioStream", container.add_stream(kind.encoder, rate=kind.rate))
        audio.layout, audio.format = kind.layout, kind.sample_format
        audio.bit_rate = kind.bit_rate
        audio.codec_context.options = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder
        if video is not None:
            count = 1 if pictures in {"mjpeg", "png"} else int(seconds * 10)
            for number in range(count):
                picture = VideoFrame(64, 64, _pixels(pictures))
                picture.pts = number
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        for frame in _frames(seconds, kind, silent=silent, size=audio.frame_size or BLOCK):
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def _pixels(encoder: str) -> str:
    return {"png": "rgb24", "mjpeg": "yuvj420p"}.get(encoder, "yuv420p")


def _frames(seconds: float, kind: Kind, *, silent: bool, size: int) -> Iterator[AudioFrame]:
    cycle = _one_second(kind, silent=silent)
    width = len(cycle) // kind.rate
    doubled = memoryview(cycle + cycle)  # a whole number of waves a second: no seam
    total = round(seconds * kind.rate)
    for start in range(0, total, size):
        count = min(size, total - start)
        frame = AudioFrame(format=kind.sample_format, layout=kind.layout, samples=count)
        frame.sample_rate, frame.pts = kind.rate, start
        at = start % kind.rate * width
        data = bytes(doubled[at : at + count * width])
        for plane in frame.planes:
            plane.update(data.ljust(plane.buffer_size, b"\0"))
        yield frame


@functools.cache
def _one_second(kind: Kind, *, silent: bool) -> bytes:
    """As a plane holds it: one channel where they are apart, else all of them side by side."""
    floats = kind.sample_format.startswith("flt")
    channels = 1 if kind.sample_format.endswith("p") else AudioLayout(kind.layout).nb_channels
    amplitude = 0.0 if silent else LOUD
    values = (amplitude * math.sin(math.tau * HERTZ * n / kind.rate) for n in range(kind.rate))
    mono = (value / 32_768 if floats else round(value) for value in values)
    every = itertools.chain.from_iterable([value] * channels for value in mono)
    return array.array("f" if floats else "h", every).tobytes()


def wav(
    samples: bytes,
    *,
    rate: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    claimed: int | None = None,
) -> bytes:
    """A WAV file by hand, so that its header can lie; `claimed` is the length it pretends."""
    width = channels * bits // 8
    size = len(samples) if claimed is None else claimed
    form = struct.pack("<HHIIHH", 1, channels, rate, min(rate * width, 2**32 - 1), width, bits)
    return (
        b"RIFF"
        + struct.pack("<I", min(36 + size, 2**32 - 1))
        + b"WAVEfmt \x10\0\0\0"
        + form
        + b"data"
        + struct.pack("<I", size)
        + samples
    )


PCM_BY_MASK = bytes.fromhex("0100000000001000800000aa00389b71")  # the GUID of plain samples


def wav_by_mask(samples: bytes, channels: int, mask: int, rate: int = 16_000) -> bytes:
    """A WAV file whose header says by a bit mask where the speakers stand; 16 bits a sample."""
    width = channels * 2
    form = struct.pack("<HHIIHH", 0xFFFE, channels, rate, rate * width, width, 16)
    form += struct.pack("<HHI", 22, 16, mask) + PCM_BY_MASK
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def claim_flac_length(data: bytes, samples: int) -> bytes:
    """The same FLAC with another number of samples in its header (36 bits of STREAMINFO)."""
    assert data[:4] == b"fLaC"
    at = 8 + 13  # magic, block header, then the byte that holds the top four bits
    top = bytes([data[at] & 0xF0 | samples >> 32])
    return data[:at] + top + struct.pack(">I", samples & 0xFFFFFFFF) + data[at + 5 :]


def loudness(pcm: bytes) -> float:
    """Root mean square of 16-bit samples."""
    samples = array.array("h", pcm)
    return math.sqrt(sum(value * value for value in samples) / max(len(samples), 1))


def pitch(pcm: bytes, rate: int = 16_000) -> float:
    """The frequency of a tone in Hz, by counting how often it rises through zero."""
    samples = array.array("h", pcm)
    rises = sum(1 for one, two in itertools.pairwise(samples) if one < 0 <= two)
    return rises * rate / max(len(samples), 1)
