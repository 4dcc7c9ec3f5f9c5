"""Find the file, read it, lay the drop-ins and the environment over it, check, build Settings.

Every problem found is reported at once. Reads configuration files only: whether folders exist
and credentials resolve is for `checking`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sttd.config import rules
from sttd.config.conversion import ValueProblem, convert
from sttd.config.environment import CONFIG, Given, read_environment
from sttd.config.problems import ConfigError, Problem, show
from sttd.config.schema import KEYS, TABLES, key_of, suggestion
from sttd.config.sections import Settings

ETC = Path("/etc/sttd")
LARGEST_FILE = 1 << 20  # bytes; more is some other file

_HEADER = re.compile(r"\s*\[\s*([\w.\s\"'-]+?)\s*\]")
_ASSIGNMENT = re.compile(r"\s*([\w.\s\"'-]+?)\s*=")
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)")


def load(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    etc: Path = ETC,
) -> Settings:
    """The configuration of `path` (else $STTD_CONFIG, else etc/sttd.toml, else the defaults).

    etc/conf.d/*.toml are laid over the default file only, in the order of their names. The
    environment goes over all of it.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[Problem] = []
    given: dict[str, Given] = {}
    for file in files(path, environ, etc):
        given |= _read_file(file, problems)
    from_environment, warnings = read_environment(environ)
    given |= from_environment
    settings = _build(given, problems)
    if problems:
        raise ConfigError([*problems, *warnings], settings)
    return msgspec.structs.replace(settings, warnings=tuple(warnings))


def files(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str], etc: Path
) -> tuple[Path, ...]:
    """The files to read, later ones over earlier ones. One that was named is read or reported."""
    named = path if path is not None else environ.get(CONFIG)
    if named:
        return (Path(named),)
    default = etc / "sttd.toml"
    overlays = sorted((etc / "conf.d").glob("[!.]*.toml"))
    return tuple([default] if _exists(default) else []) + tuple(overlays)


def _exists(path: Path) -> bool:
    """Whether there is something to read; what cannot be looked at is read, and so reported."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


# -- one file ----------------------------------------------------------------------------------
def _read_file(path: Path, problems: list[Problem]) -> dict[str, Given]:
    where = os.fspath(path)
    try:
        text = _text(path)
        tree = tomllib.loads(text)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "name an existing file" if isinstance(error, FileNotFoundError) else ""
        problems.append(_whole(where, f"cannot be read: {reason}", remedy))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.append(_whole(f"{where}:{line}", "is not UTF-8", "TOML files are UTF-8"))
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        message = _AT_LINE.sub("", str(error))
        problems.append(_whole(f"{where}:{at[1]}" if at else where, f"is not TOML: {message}"))
    except ValueError as error:
        problems.append(_whole(where, str(error)))
    else:
        reader = _Reader(where, dict(_lines(text)), problems)
        return dict(reader.walk(tree, ""))
    return {}


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ValueError("is too large for a configuration file")
    return data.decode().removeprefix("\ufeff")


def _whole(where: str, message: str, remedy: str = "") -> Problem:
    return Problem(where=where, key="", message=message, remedy=remedy)


class _Reader:
    """Turns the tables of one file into dotted keys with their places; collects what is unknown."""

    def __init__(self, path: str, lines: Mapping[str, int], problems: list[Problem]) -> None:
        self._path = path
        self._lines = lines
        self._problems = problems

    def walk(self, table: Mapping[str, object], name: str) -> Iterator[tuple[str, Given]]:
        for part, value in table.items():
            key = f"{name}.{part}" if name else part
            if key in TABLES:
                if isinstance(value, dict):
                    yield from self.walk(value, key)
                else:
                    self._report(key, "must be a table", f"write [{key}]")
            elif key_of(key) is not None:
                yield key, Given(value, self._place(key))
            else:
                self._report(key, "unknown key", suggestion(name, part))

    def _report(self, key: str, message: str, remedy: str) -> None:
        """The value is not shown: behind a misspelt key may be a secret."""
        where = self._place(key)
        self._problems.append(Problem(where=where, key=key, message=message, remedy=remedy))

    def _place(self, key: str) -> str:
        line = self._lines.get(key)
        return f"{self._path}:{line}" if line else self._path


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """Where each key stands, for messages; keys inside inline tables are not looked for."""
    table, inside = "", False
    for number, line in enumerate(text.splitlines(), 1):
        quotes = line.count('"""') + line.count("'''")
        if not inside and (header := _HEADER.match(line)):
            table = _plain(header[1])
            yield table, number
        elif not inside and (assignment := _ASSIGNMENT.match(line)):
            key = _plain(assignment[1])
            yield f"{table}.{key}" if table else key, number
        inside ^= quotes % 2 == 1


def _plain(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))


# -- all together ------------------------------------------------------------------------------
def _build(given: Mapping[str, Given], problems: list[Problem]) -> Settings:
    values: dict[str, Any] = {}
    bad: set[str] = set()
    for name, one in given.items():
        key = key_of(name)
        assert key is not None
        try:
            value = one.value if key.kind is None else convert(one.value, key.kind)
            values[name] = rules.SINGLE[name](value) if name in rules.SINGLE else value
        except ValueProblem as error:
            bad.add(name)
            problems.append(
                Problem(
                    where=one.where,
                    key=name,
                    message=error.message,
                    remedy=error.remedy,
                    shown=show(name, one.value),
                )
            )
    values = rules.derived(values) | values
    origins = dict.fromkeys(KEYS, "default") | {name: one.where for name, one in given.items()}
    settings: Settings = msgspec.structs.replace(_fill(Settings(), values), origins=origins)
    problems += [
        _misfit(misfit, given) for misfit in rules.misfits(settings) if bad.isdisjoint(misfit.keys)
    ]
    return settings


def _misfit(misfit: rules.Misfit, given: Mapping[str, Given]) -> Problem:
    """Points to the value that the operator gave, where only one of them is given."""
    blamed = misfit.keys[0]
    where = next((given[key].where for key in misfit.keys if key in given), "default")
    return Problem(
        where=where,
        key=blamed,
        message=misfit.message,
        remedy=misfit.remedy,
        shown=show(blamed, given[blamed].value) if blamed in given else "",
    )


def _fill(struct: Any, values: Mapping[str, Any]) -> Any:
    """The struct with the values of its dotted keys put in, table by table."""
    changed: dict[str, Any] = {}
    for field in struct.__struct_fields__:
        below = {
            k.removeprefix(f"{field}."): v for k, v in values.items() if k.startswith(f"{field}.")
        }
        current = getattr(struct, field)
        if field in values:
            changed[field] = values[field]
        elif below and isinstance(current, Mapping):
            changed[field] = {**current, **below}
        elif below:
            changed[field] = _fill(current, below)
    return msgspec.structs.replace(struct, **changed)
