"""Decoded frames of any kind to chunks of mono signed 16-bit 16 kHz PCM.

A filter graph of one thread; none at all for what is in that shape already. Holds at most about
a second of audio. Does not decode.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import av.error
from av.audio.frame import AudioFrame
from av.filter.graph import Graph

from sttd.engines import SAMPLE_RATE
from sttd.worker.stream import CHUNK

_GRAPH_CHUNK = CHUNK // 4  # samples that the graph gives at once: fewer objects, fewer calls
_PULL_EVERY_S = 0.25  # of input; asking for output after every frame costs a fifth more
_EMPTY = (av.error.BlockingIOError, av.error.EOFError)


class Mono:
    """Feed frames, get chunks; `check(channels, rate)` may refuse a frame's shape by raising.

    A stream may change its shape in the middle (broadcasts do): it is checked anew, and what the
    old graph still held comes out first.
    """

    def __init__(self, check: Callable[[int, int], None]) -> None:
        self._check = check
        self._shape: tuple[str, str, int] | None = None
        self._graph: Graph | None = None
        self._fed = 0  # samples in the graph that nothing has been asked for
        self._pending = bytearray()

    def feed(self, frame: AudioFrame) -> Iterator[bytes]:
        """Take a frame; yield whole chunks that are ready."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            self._drain()
            self._check(frame.layout.nb_channels, frame.sample_rate)
            self._shape = shape
            self._graph = None if _ready(frame) else _graph(shape, frame.layout.nb_channels)
        if self._graph is None:
            self._pending += memoryview(frame.planes[0])[: frame.samples * 2]
        else:
            self._graph.push(_untimed(frame))
            self._fed += frame.samples
            if self._fed >= frame.sample_rate * _PULL_EVERY_S:
                self._pull()
        while len(self._pending) >= CHUNK:
            yield self._take(CHUNK)

    def flush(self) -> Iterator[bytes]:
        """The end: yield what is left."""
        self._drain()
        while self._pending:
            yield self._take(CHUNK)

    def _take(self, size: int) -> bytes:
        chunk = bytes(memoryview(self._pending)[:size])
        del self._pending[:size]
        return chunk

    def _drain(self) -> None:
        if self._graph is not None:
            self._graph.push(None)
            self._pull()
            self._graph = None

    def _pull(self) -> None:
        assert self._graph is not None
        self._fed = 0
        with contextlib.suppress(*_EMPTY):
            for _ in itertools.count():
                frame = self._graph.pull()
                assert isinstance(frame, AudioFrame)
                self._pending += memoryview(frame.planes[0])[: frame.samples * 2]


def _ready(frame: AudioFrame) -> bool:
    return (
        frame.format.name in {"s16", "s16p"}
        and frame.layout.nb_channels == 1
        and frame.sample_rate == SAMPLE_RATE
    )


def _untimed(frame: AudioFrame) -> AudioFrame:
    """Time stamps are of no use here, and hostile ones of harm."""
    frame.pts = None
    return frame


def _graph(shape: tuple[str, str, int], channels: int) -> Graph:
    try:
        return _configured(shape)
    except av.error.ArgumentError:
        # FFmpeg mixes by where the speakers stand, and knows nothing to do with those at the sides
        # or above where none is in front
        equal = "+".join(f"{1 / channels}*c{number}" for number in range(channels))
        return _configured(shape, mix=f"mono|c0={equal}")


def _configured(shape: tuple[str, str, int], mix: str = "") -> Graph:
    format_name, layout, rate = shape
    graph = Graph()
    graph.threads = 1  # the default starts one per core
    source = graph.add(
        "abuffer", sample_fmt=format_name, channel_layout=layout, sample_rate=str(rate)
    )
    mono = graph.add(
        "aformat", sample_fmts="s16", channel_layouts="mono", sample_rates=str(SAMPLE_RATE)
    )
    sink = graph.add("abuffersink")
    if mix:
        mixing = graph.add("pan", mix)
        source.link_to(mixing)
        mixing.link_to(mono)
    else:
        source.link_to(mono)
    mono.link_to(sink)
    graph.configure()
    graph.set_audio_frame_size(_GRAPH_CHUNK)
    return graph
