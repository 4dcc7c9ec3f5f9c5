"""Find an engine's class by the name that the configuration gives it.

The only place that imports an engine module, and only inside `load`: whoever imports this module
(a command line, a template) pays for no engine until one is asked for. It builds no engine.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from types import ModuleType
from typing import Any, NamedTuple, cast

import msgspec

from sttd.engines import Engine, EngineError

__all__ = [
    "BUILT_IN",
    "GROUP",
    "Description",
    "EngineLoadError",
    "EngineNotFoundError",
    "describe",
    "load",
    "names",
]

GROUP = "sttd.engines"  # the entry point group of plug-ins


class EngineLoadError(EngineError):
    """The engine exists and cannot be used; the message is one line with the remedy."""


class EngineNotFoundError(EngineLoadError):
    """There is no engine of this name; the message says what was probably meant."""


class BuiltIn(NamedTuple):
    """Where an engine of our own lives, and what it needs that not everyone installs."""

    module: str
    attribute: str
    extra: str = ""  # the optional dependency of the sttd package
    needs: str = ""  # the module that this extra brings


BUILT_IN = {
    "azure": BuiltIn(
        "sttd.engines.azure", "AzureEngine", "azure", "azure.cognitiveservices.speech"
    ),
    "pocketsphinx": BuiltIn(
        "sttd.engines.pocketsphinx", "PocketSphinx", "pocketsphinx", "pocketsphinx"
    ),
    "drill": BuiltIn("sttd.engines.drill", "Drill"),
}

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What can be told of an engine without building it."""

    name: str
    version: str  # "" when only a built engine knows it
    start: str  # "fork" or "spawn"
    where: str  # "package.module:Class"
    summary: str  # the first line of its docstring, or ""


def load(name: str) -> type[Engine]:
    """The class of the engine called `name`.

    `name` is a built-in name (azure, pocketsphinx, drill), an entry point of the group
    "sttd.engines", or "package.module:Class". Built-in names win over entry points.

    Raises:
        EngineNotFoundError: no such engine; names the nearest one.
        EngineLoadError: found but unusable: its extra or a module is missing, its import
            fails, or it is no engine class.
    """
    if built_in := BUILT_IN.get(name):
        return _load_built_in(name, built_in)
    if ":" in name:
        return _load_path(name)
    return _load_entry_point(name)


def names() -> list[str]:
    """Every name that `load` knows: the built-in ones, then those of installed plug-ins."""
    plugins = {point.name for point in importlib.metadata.entry_points(group=GROUP)}
    return [*BUILT_IN, *sorted(plugins - BUILT_IN.keys())]


def describe(cls: type[Engine]) -> Description:
    """What an engine's class says of itself; builds and imports nothing."""
    doc = (cls.__doc__ or "").strip()
    return Description(
        name=cls.name,
        version=str(getattr(cls, "version", "")),
        start=getattr(cls, "start", "fork"),
        where=f"{cls.__module__}:{cls.__qualname__}",
        summary=doc.splitlines()[0] if doc else "",
    )


# -- the three ways ----------------------------------------------------------------------------
def _load_built_in(name: str, built_in: BuiltIn) -> type[Engine]:
    if built_in.needs and not _installed(built_in.needs):
        raise EngineLoadError(
            f"the engine {name} needs its extra: pip install 'sttd[{built_in.extra}]'"
        )
    module = _import(built_in.module, f"the engine {name}")
    return _checked(getattr(module, built_in.attribute), name)


def _load_path(name: str) -> type[Engine]:
    if not _PATH.fullmatch(name):
        raise EngineNotFoundError(
            f'{name!r} is no engine: write a name ({", ".join(names())}) or "package.module:Class"'
        )
    module_name, _, attribute = name.partition(":")
    if not _installed(module_name):
        raise EngineNotFoundError(
            f"the engine {name} needs the module {module_name}, which cannot be found: "
            "install it beside sttd, or put its folder into PYTHONPATH"
        )
    found: Any = _import(module_name, f"the engine {name}")
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = _did_you_mean(part, [each for each in vars(found) if not each.startswith("_")])
            raise EngineNotFoundError(f"{module_name} has no {attribute}{near}")
        found = getattr(found, part)
    return _checked(found, name)


def _load_entry_point(name: str) -> type[Engine]:
    points = list(importlib.metadata.entry_points(group=GROUP, name=name))
    if not points:
        raise EngineNotFoundError(
            f"there is no engine {name!r}{_did_you_mean(name, names())}: known are "
            f'{", ".join(names())}, and "package.module:Class"'
        )
    if len({point.value for point in points}) > 1:
        rivals = " and ".join(sorted(point.dist.name for point in points if point.dist))
        raise EngineLoadError(
            f"the engine {name} is offered by {rivals}: uninstall one, "
            'or write "package.module:Class"'
        )
    subject = f"the engine {name} ({points[0].value})"
    try:
        found = points[0].load()
    except AttributeError as error:
        raise EngineLoadError(f"{subject} does not exist: {_one_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise EngineLoadError(f"{subject} cannot be imported: {_one_line(error)}") from error
    return _checked(found, name)


# -- helpers -----------------------------------------------------------------------------------
def _installed(module: str) -> bool:
    """Whether there is such a module; when its parent is there and broken, the import will tell."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:  # a parent is absent, or imports what is absent
        return not (error.name and f"{module}.".startswith(f"{error.name}."))
    except ValueError:  # "a..b", or a module that hides where it came from
        return sys.modules.get(module) is not None
    except (Exception, SystemExit):  # noqa: BLE001 (a parent package may raise anything)
        return True


def _import(module: str, subject: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    # a plug-in's module may raise anything, even end the interpreter
    except (Exception, SystemExit) as error:
        raise EngineLoadError(f"{subject} cannot be imported: {_one_line(error)}") from error


def _checked(found: object, name: str) -> type[Engine]:
    """`found`, if it has what a worker will ask of it."""
    if not isinstance(found, type):
        raise EngineLoadError(f"the engine {name} is no class: it is {type(found).__name__}")
    missing = [each for each in ("name", "transcribe") if not hasattr(found, each)]
    if missing:
        raise EngineLoadError(
            f"{found.__module__}:{found.__qualname__} is no engine: it has no "
            f"{' and no '.join(missing)}; docs/engines.md says what an engine must have"
        )
    start = getattr(found, "start", "fork")
    if start not in {"fork", "spawn"}:
        raise EngineLoadError(f'the engine {name} says start = {start!r}: write "fork" or "spawn"')
    return cast("type[Engine]", found)


def _did_you_mean(name: str, known: list[str]) -> str:
    folded = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), folded, 1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
