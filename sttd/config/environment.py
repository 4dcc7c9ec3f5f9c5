"""The environment as one more layer of the configuration: STTD_POOL__WORKERS is pool.workers.

Reads a mapping handed in, no process state. A variable that sets nothing is a warning, because
the environment belongs to the operator and a left-over must not keep the daemon from starting.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sttd.config.conversion import from_text
from sttd.config.problems import Problem, did_you_mean, nearest
from sttd.config.schema import KEYS, key_of

PREFIX = "STTD_"
CONFIG = "STTD_CONFIG"
# Read elsewhere: by loading, by sttctl (twice), by workers that ask for a token.
KNOWN = frozenset({CONFIG, "STTD_SOCKET", "STTD_KEYS", "STTD_HELPER_SOCKET"})
CREDENTIALS = "STTD_CREDENTIAL_"


class Given(msgspec.Struct, frozen=True):
    """A value that somebody gave, and where."""

    value: object
    where: str


def variable_of(key: str) -> str:
    """The variable that sets a key: "engine.azure.region" to STTD_ENGINE__AZURE__REGION."""
    return PREFIX + key.replace(".", "__").upper()


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, Given], list[Problem]]:
    """What the environment sets, by dotted key, and a warning for each variable that sets nothing.

    A plug-in's options are lower-cased, like all keys; mixed case needs the file.
    """
    given: dict[str, Given] = {}
    warnings: list[Problem] = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in KNOWN or _is_credential(variable):
            continue
        name = variable.removeprefix(PREFIX).replace("__", ".").lower()
        key = key_of(name)
        if key is None or name.count(".") > 2:  # no key lies deeper
            warnings.append(_sets_nothing(variable))
            continue
        given[name] = Given(from_text(text, key.kind), f"environment {variable}")
    return given, warnings


def _sets_nothing(variable: str) -> Problem:
    near = nearest(variable, map(variable_of, KEYS))
    return Problem(
        where=f"environment {variable}",
        key="",
        message="sets nothing",
        remedy=did_you_mean(near) or "docs/configuration.md has the names",
        level="warning",
    )


def _is_credential(variable: str) -> bool:
    return variable.startswith(CREDENTIALS)
