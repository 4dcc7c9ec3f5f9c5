"""What a value must be beyond its type, and how values must fit together.

Pure: looks at values only, never at the disk (that is `checking`). Single rules may also tidy a
value (extensions in lower case, the manifest among the formats).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sttd.config.conversion import ValueProblem
from sttd.config.problems import did_you_mean, nearest
from sttd.config.sections import Settings
from sttd.core.recycling import RecyclePolicy
from sttd.events import EVENTS

# sockaddr_un.sun_path has 108 bytes, one of them the final NUL: unix(7).
LONGEST_IPC_PATH = 107
SHORTEST_MESSAGE = 64 * 1024  # bytes; a request with a chunk of an upload in it
SHORTEST_SAMPLE = 0.001  # seconds

CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# A key of the Speech service: 32 hexadecimal digits, or 84 letters and digits. CURVE: 40 of Z85.
SECRET_ITSELF = re.compile(r"[0-9A-Fa-f]{32}|[A-Za-z0-9]{84}|[A-Za-z0-9]{40}")
ENGINE = re.compile(r"[A-Za-z0-9][\w.-]*|[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
_EXTENSION = re.compile(r"[^\s./\\]{1,16}")
HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
ADDRESS = re.compile(r"https?://[!-~]*[A-Za-z0-9\]][!-~]*", re.ASCII)
NOT_AUDIO = frozenset({"json", "part", "filepart", "partial", "tmp", "swp", "download"})
OURS = ("done", "failed", "ledger", "logs", "spool")


class Misfit(msgspec.Struct, frozen=True):
    """Values that do not fit together; `keys` are all that are involved, the blamed one first."""

    keys: tuple[str, ...]
    message: str
    remedy: str


# -- one value ---------------------------------------------------------------------------------
def _state_dir(value: Path) -> Path:
    if not value.name:
        raise ValueProblem("must be a folder of its own", 'like "/var/lib/sttd"')
    path = os.path.abspath(value)  # links are not followed
    try:
        path.encode()  # workers are told where their files are, in messages, which are text
    except UnicodeEncodeError:
        raise ValueProblem("must be a path in UTF-8", "give the folder another name") from None
    return Path(path)


def _folder_beneath(value: str) -> str:
    path = os.path.normpath(value) if value else ""
    if path in ("", ".", "/") or path.startswith(".."):
        raise ValueProblem("must be a folder beneath state_dir, or an absolute path")
    if path.split("/")[0] in OURS:
        raise ValueProblem(f"must not be in {path.split('/')[0]}/, which is sttd's own")
    return path


def _absolute(value: str) -> str:
    if value and not value.startswith("/"):
        raise ValueProblem("must be an absolute path")
    return value


def _absolute_all(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(each.startswith("/") for each in value):
        raise ValueProblem("must be absolute paths")
    return value


def _extensions(value: tuple[str, ...]) -> tuple[str, ...]:
    tidy = dict.fromkeys(each.strip().removeprefix(".").lower() for each in value)
    for each in tidy:
        if not _EXTENSION.fullmatch(each):
            raise ValueProblem(f'"{each}" is no extension', 'write them like "wav"')
        if each in NOT_AUDIO:
            raise ValueProblem(f'"{each}" marks sidecars and unfinished files', "leave it out")
    if not tidy:
        raise ValueProblem("must name at least one extension")
    return tuple(tidy)


def _formats(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*value, "json")))  # the manifest is always written


def _more_than_zero(value: float) -> float:
    if value <= 0:
        raise ValueProblem("must be more than 0")
    return value


def _sample_every(value: float) -> float:
    if value < SHORTEST_SAMPLE:
        raise ValueProblem('must be at least "1ms"')
    return value


def _max_message(value: int) -> int:
    if value < SHORTEST_MESSAGE:
        raise ValueProblem('must be at least "64KiB"', "uploads travel in pieces of that size")
    return value


def _credential(value: str) -> str:
    remedy = 'give the name of a credential, like "speech-key", never the secret itself'
    if SECRET_ITSELF.fullmatch(value):
        raise ValueProblem("looks like the secret itself (not shown)", remedy)
    if value and not CREDENTIAL.fullmatch(value):
        raise ValueProblem("is no credential's name (not shown)", remedy)
    return value


def _endpoint(value: str) -> str:
    if value.startswith("tcp://"):
        _check_host_port(value.removeprefix("tcp://"), "tcp://127.0.0.1:5555")
    elif value.startswith("ipc:///"):
        path = os.fsencode(value.removeprefix("ipc://"))
        if len(path) > LONGEST_IPC_PATH:
            raise ValueProblem(
                f"the socket's path {os.fsdecode(path)} has {len(path)} bytes, "
                f"the kernel's limit is {LONGEST_IPC_PATH}",
                "choose a shorter folder, such as /run/sttd",
            )
        if path.endswith(b"/"):
            raise ValueProblem("must name a socket, not a folder")
    else:
        raise ValueProblem(
            "is no endpoint", "write ipc:///absolute/path.sock or tcp://127.0.0.1:PORT"
        )
    return value


def _listen(value: str) -> str:
    if value:
        _check_host_port(value, "127.0.0.1:9465")
        if not _is_loopback(value.rpartition(":")[0].strip("[]")):
            raise ValueProblem(
                "must be an address of the loopback, for nobody is asked who he is",
                "like 127.0.0.1:9465; a proxy on this machine can let others in",
            )
    return value


def _is_loopback(host: str) -> bool:
    import ipaddress  # noqa: PLC0415 (4 ms that few starts need)

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may come to mean anything
        return False


def _check_host_port(value: str, example: str) -> None:
    host, colon, port = value.rpartition(":")
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0
    if not colon or not host or "/" in host or not 0 < number < 1 << 16:
        raise ValueProblem("must be a host and a port from 1 to 65535", f"like {example}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueProblem("an IPv6 address needs brackets", "like [::1]:9465")


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    for each in value:
        if not HOST.fullmatch(each):
            raise ValueProblem(
                f'"{each}" is no host name', 'write "recordings.example.com", without https://'
            )
    return tuple(each.lower() for each in value)


def _allocator(value: str) -> str:
    if value not in ("system", "jemalloc") and not value.startswith("/"):
        raise ValueProblem(
            'must be "system", "jemalloc" or the absolute path of a library',
            did_you_mean(nearest(value, ("system", "jemalloc"))),
        )
    if ":" in value or " " in value:  # ld.so takes either for a separator
        raise ValueProblem("must be the path of one library, without colon and space")
    return value


def _engine(value: str) -> str:
    if not ENGINE.fullmatch(value):
        raise ValueProblem(
            "is no engine", 'azure, pocketsphinx, an installed plug-in or "package.module:Class"'
        )
    return value


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and not value[0].startswith("/"):
        raise ValueProblem(
            "must begin with the absolute path of a program",
            'like ["/usr/local/bin/transcribed", "--quiet"]; no shell is involved',
        )
    if any("\0" in each for each in value):
        raise ValueProblem("must have no NUL in it")
    return value


def _address(value: str) -> str:
    if value and not ADDRESS.fullmatch(value):
        raise ValueProblem("must be an address of http or https", 'like "https://example.com/hook"')
    return value


def _known_events(value: tuple[str, ...]) -> tuple[str, ...]:
    for each in value:
        if each.startswith("notify."):
            raise ValueProblem(f'"{each}" is about notifications themselves', "leave it out")
        if each not in EVENTS:
            remedy = did_you_mean(nearest(each, EVENTS)) or "docs/events.md has them all"
            raise ValueProblem(f'there is no event "{each}"', remedy)
    return tuple(dict.fromkeys(value))


SINGLE: dict[str, Callable[[Any], Any]] = {
    "state_dir": _state_dir,
    "inbox.path": _folder_beneath,
    "inbox.extensions": _extensions,
    "inbox.rescan": _more_than_zero,
    "outbox.path": _folder_beneath,
    "outbox.formats": _formats,
    "control.endpoint": _endpoint,
    "control.events": _endpoint,
    "control.curve_server_key": _credential,
    "control.curve_clients": _absolute,
    "control.allow_paths": _absolute_all,
    "control.max_message": _max_message,
    "pool.allocator": _allocator,
    "recycle.sample_every": _sample_every,
    "limits.max_file_size": _more_than_zero,
    "limits.max_duration": _more_than_zero,
    "url.allow_hosts": _hosts,
    "url.timeout": _more_than_zero,
    "engine.name": _engine,
    "engine.azure.key": _credential,
    "metrics.listen": _listen,
    "notify.exec": _command,
    "notify.url": _address,
    "notify.events": _known_events,
    "notify.timeout": _more_than_zero,
}


def derived(values: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults that depend on what was given: who lowers the ceiling alone means both lines."""
    ceiling = values.get("recycle.rss_ceiling", 0)
    if 0 < ceiling < RecyclePolicy().rss_soft:
        return {"recycle.rss_soft": max(1, ceiling * 3 // 4)}
    return {}


# -- values together ---------------------------------------------------------------------------
def misfits(settings: Settings) -> Iterator[Misfit]:
    """Every pair of values that do not fit together."""
    yield from _recycling(settings)
    yield from _sockets(settings)
    yield from _folders(settings)


def _recycling(settings: Settings) -> Iterator[Misfit]:
    recycle, retry = settings.recycle, settings.retry
    if 0 < recycle.rss_ceiling < recycle.rss_soft:
        yield Misfit(
            ("recycle.rss_soft", "recycle.rss_ceiling"),
            "is above recycle.rss_ceiling: workers would be killed before they could retire",
            "raise rss_ceiling or lower rss_soft",
        )
    if retry.backoff > retry.backoff_max:
        yield Misfit(
            ("retry.backoff", "retry.backoff_max"),
            "is longer than retry.backoff_max",
            "raise backoff_max or lower backoff",
        )


def _sockets(settings: Settings) -> Iterator[Misfit]:
    control = settings.control
    if control.endpoint == control.events:
        yield Misfit(
            ("control.events", "control.endpoint"),
            "is the same as control.endpoint",
            "give each socket an endpoint of its own",
        )
    for name in ("endpoint", "events"):
        if not getattr(control, name).startswith("tcp://"):
            continue
        for needed in ("curve_server_key", "curve_clients"):
            if not getattr(control, needed):
                yield Misfit(
                    (f"control.{name}", f"control.{needed}"),
                    f"a tcp endpoint needs control.{needed}",
                    "set it (sttctl keygen makes the keys), or use ipc://",
                )


def _folders(settings: Settings) -> Iterator[Misfit]:
    inbox, outbox = settings.inbox_dir, settings.outbox_dir
    holding = [
        name
        for name, path in (("inbox.path", inbox), ("outbox.path", outbox))
        if settings.state_dir.is_relative_to(path)
    ]
    for name in holding:
        yield Misfit((name, "state_dir"), "must not hold state_dir", "use a folder beneath it")
    if not holding and (inbox.is_relative_to(outbox) or outbox.is_relative_to(inbox)):
        yield Misfit(
            ("inbox.path", "outbox.path"),
            "and outbox.path must not be the same folder, nor one inside the other",
            "give each a folder of its own",
        )
