"""What `sttd check-config` finds beyond the file: folders, sockets, group, engine, credentials.

Looks and does not touch: makes no folder, imports no engine (who calls may let another process do
so), shows no secret. It sees what the user who runs it sees, so what another user may see otherwise
is a warning, never an error.
"""

from __future__ import annotations

import grp
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sttd.config import allocators
from sttd.config.loading import ETC, load
from sttd.config.problems import ConfigError, Problem, did_you_mean, nearest
from sttd.config.sections import Settings
from sttd.credentials import CredentialError, MissingCredentialError, read_credential

ENGINES = "sttd.engines"  # the group of entry points, and the package of those that ship with sttd
BUILT_IN = {
    "azure": ("azure.cognitiveservices.speech", "pip install 'sttd[azure]'"),
    "pocketsphinx": ("pocketsphinx", "pip install 'sttd[pocketsphinx]'"),
    "drill": ("", ""),
}

# Judges an engine's own options; the message of a ValueError is the problem.
EngineCheck = Callable[[str, Mapping[str, object]], None]
# Loads the engine of this name where it does no harm; why it cannot be loaded, or "".
EngineTrial = Callable[[str], str]


def check(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    etc: Path = ETC,
    engine_check: EngineCheck | None = None,
    engine_trial: EngineTrial | None = None,
) -> list[Problem]:
    """Everything that is wrong with the configuration, warnings among it; empty when it is fine."""
    try:
        settings = load(path, environ, etc)
    except ConfigError as error:
        return sorted([*error.problems, *_engine_beside(error)], key=lambda each: each.level)
    problems = list(settings.warnings)
    problems += _folders(settings)
    problems += _sockets(settings)
    problems += _metrics(settings)
    problems += _engine(settings, engine_check, engine_trial)
    problems += _allocator(settings)
    problems += _credentials(settings, environ, etc)
    return problems


def _problem(
    settings: Settings, key: str, message: str, remedy: str = "", *, certain: bool = True
) -> Problem:
    """What depends on who looks is a warning: the service may see it otherwise."""
    return Problem(
        where=settings.origins[key],
        key=key,
        message=message,
        remedy=remedy,
        level="error" if certain else "warning",
    )


# -- folders -----------------------------------------------------------------------------------
def _folders(settings: Settings) -> Iterator[Problem]:
    folders = {
        "state_dir": settings.state_dir,
        "inbox.path": settings.inbox_dir,
        "outbox.path": settings.outbox_dir,
    }
    for key, folder in folders.items():
        yield from _folder(settings, key, folder, "systemd's StateDirectory= can make it")
    for allowed in settings.control.allow_paths:
        if not Path(allowed).is_dir():
            message = f"{allowed} is no folder"
            yield _problem(settings, "control.allow_paths", message, certain=False)


def _folder(settings: Settings, key: str, folder: Path, remedy: str) -> Iterator[Problem]:
    """Whether the daemon could use the folder, or make it, as seen by the user who asks."""
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    if not there.is_dir():
        yield _problem(settings, key, f"{there} is no folder", "move it away")
    elif os.statvfs(there).f_flag & os.ST_RDONLY:  # for everybody, so that nobody needs to guess
        yield _problem(settings, key, f"{there} is on a read-only file system", "choose another")
    elif not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        what = "" if there == folder else f", so {folder} cannot be made"
        message = f"user {os.geteuid()} cannot write to {there}{what}"
        yield _problem(settings, key, message, remedy, certain=False)


# -- sockets -----------------------------------------------------------------------------------
def _sockets(settings: Settings) -> Iterator[Problem]:
    control = settings.control
    for name in ("endpoint", "events"):
        key = f"control.{name}"
        endpoint = getattr(control, name)
        if endpoint.startswith("ipc://"):
            folder = Path(endpoint.removeprefix("ipc://")).parent
            remedy = "systemd's RuntimeDirectory=sttd makes /run/sttd"
            yield from _folder(settings, key, folder, remedy)
    if control.group and not _group_exists(control.group):
        message = f'there is no group "{control.group}": only root and the service can connect'
        remedy = f'groupadd --system {control.group}, or "" for the daemon\'s own group'
        yield _problem(settings, "control.group", message, remedy, certain=False)
    if control.curve_clients and not Path(control.curve_clients).is_dir():
        yield _problem(settings, "control.curve_clients", f"{control.curve_clients} is no folder")


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _metrics(settings: Settings) -> Iterator[Problem]:
    if settings.metrics.listen and not _is_there("prometheus_client"):
        message = "the package prometheus-client is missing"
        yield _problem(settings, "metrics.listen", message, "pip install 'sttd[metrics]'")


# -- the engine --------------------------------------------------------------------------------
def _engine(
    settings: Settings, engine_check: EngineCheck | None, engine_trial: EngineTrial | None
) -> Iterator[Problem]:
    name = settings.engine.name
    missing, remedy = _missing(name)
    if missing:
        yield _problem(settings, "engine.name", missing, remedy)
    elif engine_trial is not None and (refusal := engine_trial(name)):
        yield _problem(settings, "engine.name", refusal)
    if engine_check is not None:
        try:
            engine_check(name, settings.engine.options_for(name))
        except ValueError as error:
            yield _problem(settings, "engine.name", f"the engine {name} says: {error}")


def _engine_beside(error: ConfigError) -> Iterator[Problem]:
    """Whether there is the engine of a configuration that is wrong elsewhere."""
    if error.settings is not None and all(each.key != "engine.name" for each in error.problems):
        yield from _engine(error.settings, None, None)


def _allocator(settings: Settings) -> Iterator[Problem]:
    try:
        allocators.preload(settings.pool.allocator)
    except allocators.MissingAllocatorError as error:
        remedy = 'install it, or allocator = "system"'
        yield _problem(settings, "pool.allocator", str(error), remedy)


def _missing(name: str) -> tuple[str, str]:
    """What is not installed of the engine, and what to do; found without importing the engine."""
    if name in BUILT_IN:
        module, remedy = BUILT_IN[name]
        return ("", "") if not module or _is_there(module) else (f"{module} is missing", remedy)
    if ":" in name:
        module = name.partition(":")[0]
        remedy = "install it, or add its folder to PYTHONPATH"
        return ("", "") if _is_there(module) else (f"there is no module {module}", remedy)
    plugins = importlib.metadata.entry_points(group=ENGINES)
    for plugin in plugins:
        if plugin.name == name:
            there = _is_there(plugin.module)
            return ("", "") if there else (f"its module {plugin.module} is missing", "reinstall it")
    known = sorted({*BUILT_IN, *plugins.names})
    meant = f"{did_you_mean(nearest(name, known))} ".lstrip()
    remedy = f'{meant}engines are {", ".join(known)}, or "package.module:Class"'
    return f'there is no engine "{name}"', remedy


def _is_there(module: str) -> bool:
    """Whether the module could be imported. Nothing is, not even the packages above it."""
    if module in sys.modules:
        return True
    top, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for part in parts:
        files = [part + suffix for suffix in importlib.machinery.all_suffixes()]
        if any((folder / file).is_file() for folder in folders for file in files):
            folders = []
        else:
            folders = [folder / part for folder in folders if (folder / part).is_dir()]
            if not folders:
                return False
    return True


# -- credentials -------------------------------------------------------------------------------
def _credentials(settings: Settings, environ: Mapping[str, str], etc: Path) -> Iterator[Problem]:
    wanted = {"control.curve_server_key": settings.control.curve_server_key}
    azure = settings.engine.azure
    if settings.engine.name == "azure" and azure.get("auth") == "key":
        wanted["engine.azure.key"] = str(azure["key"])
        if not azure["key"]:
            yield _problem(
                settings, "engine.azure.key", 'auth = "key" needs the name of a credential'
            )
    for key, name in wanted.items():
        if not name:
            continue
        try:
            read_credential(name, environ, etc / "credentials")
        except CredentialError as error:
            certain = not isinstance(error, MissingCredentialError)
            yield _problem(settings, key, str(error), certain=certain)
