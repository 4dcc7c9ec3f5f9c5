"""Messages between the supervisor, its template and its workers: closed unions, msgpack.

Framed by `frames` on a private stream socketpair each. Every message about a job carries
(generation, job, attempt, token); whoever receives one that does not fit drops it and says so.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sttd.wire.memory import HeapView

PROTOCOL = 1


# -- supervisor to template -------------------------------------------------------------------
class Load(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """The first message to a template, and to a worker that was spawned rather than forked."""

    role: Literal["engine", "decoder"]
    supervisor: int  # pid; whoever has another parent in the end leaves
    engine: str = ""  # as [engine] name says
    options: dict[str, Any] = {}
    trim_threshold: int = 0  # bytes of growth over a job past which malloc_trim is called


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Fork a worker or a decoder; its descriptors travel beside this message.

    A worker gets three: its sockets to the supervisor and to its decoder, and a memfd into which
    it writes its stacks on SIGUSR1; a decoder gets its socket to the worker.
    """

    worker: str  # "w-17"
    generation: int


ToTemplate = Load | Fork


# -- template to supervisor -------------------------------------------------------------------
class Walls(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the walls around a decoder stand on this machine, as tried."""

    landlock: int  # version of its ABI; 0: none
    seccomp: bool
    files: bool  # no file can be opened
    network: bool  # no address can be reached


class TemplateReady(msgspec.Struct, frozen=True, tag="template_ready"):
    """The engine is imported and its model loaded. `start` is "fork" or "spawn".

    `walls` are told by the decoders' template.
    """

    pid: int
    engine: str
    version: str
    start: str
    rss_bytes: int
    walls: Walls | None = None


class TemplateBroken(msgspec.Struct, frozen=True, tag="template_broken"):
    """The engine cannot be loaded; `message` is one line for the operator."""

    message: str


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """The child lives and is (or is about to become) the supervisor's own child."""

    worker: str
    generation: int
    pid: int


class ForkFailed(msgspec.Struct, frozen=True, tag="fork_failed"):
    """No child: too many threads in the template, or the kernel refused."""

    worker: str
    generation: int
    message: str


FromTemplate = TemplateReady | TemplateBroken | Forked | ForkFailed


# -- supervisor to worker ---------------------------------------------------------------------
class DecodeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a decoder refuses, enforced while decoding because headers lie."""

    max_duration_s: float
    max_channels: int


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Transcribe one job."""

    generation: int
    job: str
    attempt: int
    token: str
    name: str  # the source's name, printable
    spool: str  # absolute folder: audio, segments.jsonl
    staging: str  # absolute folder to create under outbox/.tmp; outputs go here
    stem: str  # of the outputs in the staging folder, printable, e.g. "meeting-2"
    formats: tuple[str, ...]
    options: str  # the sidecar's JSON
    limits: DecodeLimits
    resume: bool  # False: start from zero and drop earlier segments


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Leave, now that you are idle."""

    reason: str


class Inspect(msgspec.Struct, frozen=True, tag="inspect"):
    """Say what is in your memory; asked of idle workers only, answered by Inspected.

    `deep`: also count objects by type, which takes some 20 ms for 50,000 objects.
    """

    serial: int
    deep: bool


ToWorker = Load | Run | Inspect | Stop


# -- worker to supervisor ---------------------------------------------------------------------
class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The first message of a worker's life."""

    worker: str
    generation: int
    pid: int
    rss_bytes: int


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """Audio read so far and segments committed so far; at most a few a second."""

    generation: int
    job: str
    attempt: int
    token: str
    position_s: float  # seconds of audio handed to the engine
    committed_s: float  # end of the last committed segment
    segments: int  # committed by this attempt
    duration_s: float | None
    start_s: float = 0.0  # where this attempt began
    writing: bool = False  # the engine is done with it; what is left is to write the outputs


class Output(msgspec.Struct, frozen=True):
    """One finished file in the staging folder."""

    name: str
    bytes: int
    sha256: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """Every output is written and synced in the staging folder; memory has been trimmed."""

    generation: int
    job: str
    attempt: int
    token: str
    duration_s: float
    segments: int
    sha256: str  # of the recording
    clamped: int  # segments whose times had to be mended
    damage: str  # what could not be decoded, in one line; "" for a sound recording
    outputs: tuple[Output, ...]  # the manifest last
    rss_before: int  # bytes, before the worker tidied up
    rss_after: int


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The attempt ended without a transcript. `kind` is a `core.retry.FailureKind` value."""

    generation: int
    job: str
    attempt: int
    token: str
    kind: str
    code: str
    message: str
    retry_after_s: float | None = None
    segments: int = 0  # committed by this attempt
    duration_s: float | None = None
    rss_before: int = 0
    rss_after: int = 0
    leaving: bool = False  # the worker ends now: its decoder is gone


class EngineReport(msgspec.Struct, frozen=True, kw_only=True, tag="engine"):
    """The service's state as the engine sees it, ahead of the attempt's end. Kinds as `Failed`."""

    generation: int
    kind: str
    message: str


class Inspected(msgspec.Struct, frozen=True, tag="inspected"):
    """The answer to the Inspect of this serial."""

    serial: int
    heap: HeapView


FromWorker = Ready | Progress | Done | Failed | EngineReport | Inspected


# -- worker to decoder and back ---------------------------------------------------------------
class Decode(msgspec.Struct, frozen=True, kw_only=True, tag="decode"):
    """Decode the descriptor that travels beside this into the pipe that travels beside it."""

    name: str
    start_s: float
    limits: DecodeLimits


class Skipped(msgspec.Struct, frozen=True, kw_only=True, tag="skipped"):
    """Still decoding what comes before the first sample wanted; now and then, before `Probed`."""

    position_s: float


class Probed(msgspec.Struct, frozen=True, kw_only=True, tag="probed"):
    """The container was opened; sent before the first PCM. None where the header does not say."""

    duration_s: float | None
    format: str
    codec: str


class Decoded(msgspec.Struct, frozen=True, kw_only=True, tag="decoded"):
    """All PCM was written and the pipe closed; `duration_s` counts from the recording's start.

    `damage` says in one line what could not be decoded; empty when all was well.
    """

    duration_s: float
    damage: str = ""


class Undecodable(msgspec.Struct, frozen=True, kw_only=True, tag="undecodable"):
    """No (further) PCM; `code` is an error code of docs/protocol.md."""

    code: str
    message: str


FromDecoder = Skipped | Probed | Decoded | Undecodable
