"""What the README and the documents tell people to type, and where they send them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sttd.config import load
from tests.support.daemon import ROOT, daemon
from tests.support.wav import tone

README = (ROOT / "README.md").read_text()
AT_A_GLANCE = "<!-- these lines are run by tests/acceptance/test_readme.py against a daemon -->\n"
PROGRAMS = {"sttd": "sttd", "sttctl": "sttd.ctl"}
# Commands of others: what they are given must exist, the rest is theirs.
OTHERS = {"cat", "cp", "install", "ln", "pip", "python3", "systemctl", "systemd-sysusers"}
OTHERS |= {"systemd-tmpfiles", "apt"}


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(block: str) -> Iterator[list[str]]:
    """The words of each line, without comments and settings of variables."""
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"\w+=", words[0]):
            del words[0]
        if words:
            yield words


def documented() -> list[list[str]]:
    texts = (README, (ROOT / "CONTRIBUTING.md").read_text())
    return [words for text in texts for block in blocks(text, "sh") for words in commands(block)]


def run(*command: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("words", documented(), ids=shlex.join)
def test_every_command_exists_with_the_options_it_is_given(words: list[str]) -> None:
    program = os.path.basename(words[0])
    if program == "make":
        if shutil.which("make") is None:
            pytest.skip("make is not installed")
        run("make", "-n", words[1])
    elif program in PROGRAMS:
        verb = [w for w in words[1:2] if not w.startswith("-")]
        told = run(sys.executable, "-m", PROGRAMS[program], *verb, "--help")
        for option in (w for w in words if w.startswith("--")):
            assert re.search(rf"{option}\b", told), f"{shlex.join(words)}: no {option}"
    else:
        assert program in OTHERS
        for word in words[1:]:
            if word.startswith(("systemd/", "etc/", "tests/", "constraints")):
                assert (ROOT / word).exists(), f"{shlex.join(words)}: no {word}"
            if word.startswith(".["):
                project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
                assert word[2:-1] in project["optional-dependencies"]


def test_what_is_shown_of_sttctl_works_as_it_is_shown(tmp_path: Path) -> None:
    (block,) = blocks(README.split(AT_A_GLANCE)[1].split("\n## ")[0], "sh")
    lines = list(commands(block))
    assert len(lines) >= 10
    tone(tmp_path / "meeting.wav", 0.5)
    with daemon() as sttd:
        sttd.start()
        for program, *arguments in lines:
            assert program == "sttctl"
            command = (sys.executable, "-m", "sttd.ctl", *arguments)
            run(*command, env={"STTD_SOCKET": sttd.endpoint}, cwd=tmp_path)
        assert (tmp_path / "here" / "meeting.json").exists()
        assert sttd.stop() == 0


def test_one_file_is_transcribed_without_a_daemon() -> None:
    pytest.importorskip("pocketsphinx", reason="the extra pocketsphinx is not installed")
    (words,) = (w for w in documented() if "run-once" in w)
    told = run(sys.executable, "-m", "sttd", *words[1:], env={"STTD_ENGINE__NAME": "pocketsphinx"})
    assert "weather" in told


def test_the_first_configuration_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("STTD_")]:
        monkeypatch.delenv(name)
    (block,) = blocks(section("Install on a virtual machine"), "toml")
    path = tmp_path / "sttd.toml"
    path.write_text(block)
    settings = load(str(path))
    assert settings.engine.name == "azure"
    (where,) = re.findall(r"/etc/credstore/(\S+)", README)
    unit = (ROOT / "systemd" / "sttd.service").read_text()
    credential = settings.engine.options_for("azure")["key"]
    assert f"LoadCredential={credential}:{where}" in unit.splitlines()


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/operations.md", "docs/architecture.md"]
)
def test_every_file_that_is_named_exists(page: str) -> None:
    named = re.findall(r"`((?:docs|etc|systemd|tests|\.ci)/[^`\s]*)`", (ROOT / page).read_text())
    named += re.findall(r"`([A-Z]+\.md)`", (ROOT / page).read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_module_on_the_map_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text().split("## Code map")[1]
    named = re.findall(r"`([a-z_]+(?:\.[a-z_]+)?/?)`", text.split("## The way")[0])
    there = {p.stem for p in (ROOT / "sttd").rglob("*.py")}
    there |= {f"{p.name}/" for p in (ROOT / "sttd").rglob("*") if p.is_dir()}
    assert [name for name in named if name not in there | {"ledger.sql", "ctl"}] == []


def test_every_test_that_stands_for_a_promise_exists() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "operations.md").read_text())
    written = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert [name for name in named if f"def {name}(" not in written] == []
