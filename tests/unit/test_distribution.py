"""What goes into the wheel, by what pyproject.toml names; nothing is built here."""

from __future__ import annotations

import fnmatch
import tomllib

from tests.support.daemon import ROOT

SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
DATA = [name for names in SETUPTOOLS["data-files"].values() for name in names]


def test_every_file_of_the_package_that_is_no_module_is_taken_along() -> None:
    files = [path for path in (ROOT / "sttd").rglob("*") if path.is_file()]
    others = [
        str(path.relative_to(ROOT / "sttd"))
        for path in files
        if path.suffix not in {".py", ".pyc"} and path.name != ".DS_Store"
    ]
    patterns = SETUPTOOLS["package-data"]["sttd"]
    assert "py.typed" in others
    left = [name for name in others if not any(fnmatch.fnmatch(name, p) for p in patterns)]
    assert left == []


def test_every_file_that_is_named_exists() -> None:
    assert [name for name in DATA if not (ROOT / name).is_file()] == []


def test_whatever_a_machine_needs_beside_the_program_is_named() -> None:
    places = ("etc", "man", "systemd")
    there = [path for place in places for path in (ROOT / place).rglob("*") if path.is_file()]
    names = [str(path.relative_to(ROOT)) for path in there if ".test." not in path.name]
    assert sorted(DATA) == sorted(names)
