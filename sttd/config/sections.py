"""The configuration as values: one frozen struct per TOML section, its keys and its defaults.

`[recycle]` and `[retry]` are the core's own policy objects. Nothing here reads a file, the
environment or the disk; `loading` fills these in and `rules` judges how they fit together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from sttd.config.problems import Problem
from sttd.core.recycling import MIB, RecyclePolicy
from sttd.core.retry import RetryPolicy
from sttd.core.units import Count, MemoryBudget, Positive, Seconds, Size, Workers

GIB = 1 << 30
DAY = 86400.0

EXTENSIONS = ("wav", "mp3", "flac", "ogg", "opus", "m4a", "mp4", "webm", "aac", "amr", "wma")
# The keys of [engine.azure] that the contract shows, with their defaults.
AZURE_DEFAULTS: Mapping[str, object] = {
    "region": "",
    "endpoint": "",
    "host": "",
    "auth": "entra",
    "key": "",
    "languages": ("en-US",),
    "diarization": True,
    "max_sessions": 20,
}
Format = Literal["json", "txt", "srt", "vtt", "azure"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections have in common."""


class Inbox(Section, frozen=True, kw_only=True):
    """The `[inbox]` section: where recordings arrive and when they count as complete."""

    path: str = "inbox"
    extensions: tuple[str, ...] = EXTENSIONS
    settle: Seconds = 2.0
    rescan: Seconds = 30.0
    recursive: bool = True
    empty_grace: Seconds = 60.0


class Outbox(Section, frozen=True, kw_only=True):
    """The `[outbox]` section. `formats` always holds "json": it is the manifest."""

    path: str = "outbox"
    formats: tuple[Format, ...] = ("json", "txt", "srt", "vtt")
    originals: Literal["keep", "delete"] = "keep"


class Control(Section, frozen=True, kw_only=True):
    """The `[control]` section: sockets, and who may use them."""

    endpoint: str = "ipc:///run/sttd/control.sock"
    events: str = "ipc:///run/sttd/events.sock"
    curve_server_key: str = ""
    curve_clients: str = ""
    group: str = "sttd"
    allow_paths: tuple[str, ...] = ()
    max_message: Size = MIB


class Pool(Section, frozen=True, kw_only=True):
    """The `[pool]` section. `memory_budget` is turned into bytes by `units.budget_bytes`.

    `allocator`: "system", "jemalloc", or the absolute path of a library to preload.
    """

    workers: Workers = 2
    standby: Count = 1
    max_per_memory: bool = True
    memory_budget: MemoryBudget = "60%"
    cgroups: Literal["auto", "off"] = "auto"
    allocator: str = "system"
    malloc_arena_max: Count = 2


class Limits(Section, frozen=True, kw_only=True):
    """The `[limits]` section: what is refused, and when nothing more is taken in."""

    max_file_size: Size = 500 * MIB
    max_duration: Seconds = 5 * 3600.0
    max_channels: Positive = 8
    min_free_disk: Size = GIB
    max_queued: Positive = 100_000


class Url(Section, frozen=True, kw_only=True):
    """The `[url]` section: jobs whose recording is fetched."""

    enabled: bool = False
    allow_hosts: tuple[str, ...] = ()
    timeout: Seconds = 600.0
    remember_failures: Seconds = 600.0


class Retention(Section, frozen=True, kw_only=True):
    """The `[retention]` section. 0 keeps for ever."""

    done: Seconds = 30 * DAY
    failed: Seconds = 90 * DAY
    rows: Seconds = 90 * DAY


class PocketSphinx(Section, frozen=True, kw_only=True):
    """The `[engine.pocketsphinx]` section."""

    model: str = "en-us"


class Engine(Section, frozen=True, kw_only=True):
    """The `[engine]` section and the tables below it.

    `azure` holds the defaults of the contract and whatever else was given; the engine checks it.
    """

    name: str = "azure"
    azure: Mapping[str, object] = msgspec.field(default_factory=lambda: dict(AZURE_DEFAULTS))
    pocketsphinx: PocketSphinx = PocketSphinx()
    options: Mapping[str, object] = {}

    def options_for(self, name: str) -> Mapping[str, object]:
        """What the engine called `name` is built with: a fresh mapping of plain values."""
        if name == "azure":
            return dict(self.azure)
        if name == "pocketsphinx":
            return msgspec.structs.asdict(self.pocketsphinx)
        return dict(self.options)


class LogSection(Section, frozen=True, kw_only=True):
    """The `[log]` section."""

    format: Literal["json", "console", "auto"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Metrics(Section, frozen=True, kw_only=True):
    """The `[metrics]` section. `listen` is host:port, or "" for off."""

    listen: str = ""


class Notify(Section, frozen=True, kw_only=True):
    """The `[notify]` section: whom to tell of events; with neither `exec` nor `url`, nobody."""

    exec: tuple[str, ...] = ()
    url: str = ""
    events: tuple[str, ...] = ("job.succeeded", "job.failed")
    timeout: Seconds = 30.0
    retries: Count = 3
    concurrency: Positive = 2


class Settings(Section, frozen=True, kw_only=True):
    """The whole configuration, checked. Folders are properties, resolved against `state_dir`.

    `origins` tells for every key ("pool.workers") where its value came from: "default",
    "/etc/sttd/sttd.toml:12" or "environment STTD_POOL__WORKERS".
    """

    state_dir: Path = Path("/var/lib/sttd")
    inbox: Inbox = Inbox()
    outbox: Outbox = Outbox()
    control: Control = Control()
    pool: Pool = Pool()
    recycle: RecyclePolicy = RecyclePolicy()
    retry: RetryPolicy = RetryPolicy()
    limits: Limits = Limits()
    url: Url = Url()
    retention: Retention = Retention()
    engine: Engine = Engine()
    log: LogSection = LogSection()
    metrics: Metrics = Metrics()
    notify: Notify = Notify()
    origins: Mapping[str, str] = {}
    warnings: tuple[Problem, ...] = ()

    @property
    def inbox_dir(self) -> Path:
        """Where recordings are dropped."""
        return self.state_dir / self.inbox.path

    @property
    def outbox_dir(self) -> Path:
        """Where transcripts are published."""
        return self.state_dir / self.outbox.path

    @property
    def done_dir(self) -> Path:
        """Where originals are kept."""
        return self.state_dir / "done"

    @property
    def failed_dir(self) -> Path:
        """Where originals that could not be transcribed go."""
        return self.state_dir / "failed"

    @property
    def logs_dir(self) -> Path:
        """Where the logs that jobs asked for are kept when they are over."""
        return self.state_dir / "logs"

    @property
    def spool_dir(self) -> Path:
        """Where accepted recordings live while they are ours."""
        return self.state_dir / "spool"

    @property
    def ledger_path(self) -> Path:
        """The ledger's database file."""
        return self.state_dir / "ledger" / "sttd.db"

    @property
    def resumes(self) -> bool:
        """Whether a later attempt goes on where the last one stopped (else: from the start)."""
        return self.engine.options_for(self.engine.name).get("resume") != "restart"
