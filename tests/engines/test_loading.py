"""Engines are found by name, entry point and path; what cannot be loaded is one clear line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sttd.engines import InvalidAudioError, TranscribeOptions
from sttd.engines.drill import Drill
from sttd.engines.loading import (
    BUILT_IN,
    EngineLoadError,
    EngineNotFoundError,
    describe,
    load,
    names,
)
from tests.support.audio import REPOSITORY, PcmAudio, silence, tone

ENGINE = '''
class Mine:
    """Says nothing. The second line."""
    name = "mine"
    version = "2.1"
    start = "spawn"
    class Inner:
        name = "inner"
        def transcribe(self, audio, options): ...
    def transcribe(self, audio, options): ...

class Mute:
    name = "mute"

class Odd(Mine):
    start = "thread"

function = len
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module with engines in it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"engines_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(ENGINE, encoding="utf-8")
    return name


def install(folder: Path, package: str, entry_points: dict[str, str]) -> None:
    """What pip leaves of a package that offers engines."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}\n" for name, value in entry_points.items()]
    (info / "entry_points.txt").write_text("[sttd.engines]\n" + "".join(lines))


def refusal(name: str) -> str:
    with pytest.raises(EngineLoadError) as caught:
        load(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- by name -----------------------------------------------------------------------------------
def test_a_built_in_engine_is_found_by_its_name() -> None:
    assert load("drill") is Drill


def test_importing_the_loader_imports_no_engine() -> None:
    code = (
        "import sys, sttd.engines.loading as l; before = set(sys.modules); l.load('drill');"
        "print([m for m in before if m.startswith('sttd.engines.')], 'pocketsphinx' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert out.stdout == "['sttd.engines.loading'] False\n"


@pytest.mark.parametrize(("typed", "meant"), [("drlil", "drill"), ("PocketSphynx", "pocketsphinx")])
def test_a_misspelt_name_is_answered_with_the_nearest_one(typed: str, meant: str) -> None:
    with pytest.raises(EngineNotFoundError, match=f"no engine '{typed}'; did you mean '{meant}'"):
        load(typed)


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    message = refusal("whisper-9")
    assert "did you mean" not in message
    for name in BUILT_IN:
        assert name in message


def test_a_missing_extra_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert (
        refusal("pocketsphinx")
        == "the engine pocketsphinx needs its extra: pip install 'sttd[pocketsphinx]'"
    )


# -- by path -----------------------------------------------------------------------------------
def test_a_class_is_found_by_its_path(module: str) -> None:
    assert load(f"{module}:Mine").name == "mine"
    assert load(f"{module}:Mine.Inner").name == "inner"


def test_a_module_that_is_not_there_is_named() -> None:
    assert "the module no_such_package.engine, which cannot be found" in refusal(
        "no_such_package.engine:Mine"
    )
    assert "cannot be found" in refusal("json.nothing:Mine")


def test_a_class_that_is_not_there_is_answered_with_the_nearest_one(module: str) -> None:
    with pytest.raises(EngineNotFoundError, match=f"{module} has no Mime; did you mean 'Mine'"):
        load(f"{module}:Mime")


@pytest.mark.parametrize("path", ["a b:C", "mod:", ":C", "mod:C:D", "mod:1"])
def test_what_is_no_path_is_refused(path: str) -> None:
    assert '"package.module:Class"' in refusal(path)


def test_what_is_no_engine_is_refused(module: str) -> None:
    assert "it has no transcribe" in refusal(f"{module}:Mute")
    assert "is no class" in refusal(f"{module}:function")
    assert 'write "fork" or "spawn"' in refusal(f"{module}:Odd")
    assert "it has no name and no transcribe" in refusal("json:JSONDecoder")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def f(:", "SyntaxError"),
        ("raise OSError('a\\nb')", "OSError: a b"),
    ],
)
def test_a_module_that_fails_to_import_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, reason: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "breaks_here").mkdir()
    (tmp_path / "breaks_here" / "__init__.py").write_text(line)
    (tmp_path / "breaks_here" / "engine.py").write_text("class E: ...")
    for name in ("breaks_here:E", "breaks_here.engine:E"):
        monkeypatch.delitem(sys.modules, "breaks_here", raising=False)
        message = refusal(name)
        assert message.startswith(f"the engine {name} cannot be imported: {reason}")


# -- by entry point ----------------------------------------------------------------------------
def test_an_installed_plug_in_is_found_by_its_entry_point(tmp_path: Path, module: str) -> None:
    install(tmp_path, "plug_one", {"mine": f"{module}:Mine"})
    assert load("mine").name == "mine"
    assert "mine" in names()
    assert "did you mean 'mine'" in refusal("miine")


def test_a_plug_in_cannot_take_the_name_of_a_built_in_engine(tmp_path: Path, module: str) -> None:
    install(tmp_path, "plug_two", {"drill": f"{module}:Mine"})
    assert load("drill") is Drill
    assert names().count("drill") == 1


def test_two_plug_ins_of_one_name_are_refused(tmp_path: Path, module: str) -> None:
    install(tmp_path, "plug_three", {"twice": f"{module}:Mine"})
    install(tmp_path, "plug_four", {"twice": f"{module}:Mine.Inner"})
    assert "is offered by plug_four and plug_three" in refusal("twice")


def test_a_plug_in_that_is_broken_is_named(tmp_path: Path, module: str) -> None:
    points = {"gone": f"{module}:Gone", "nowhere": "no_such_package:Mine", "mute": f"{module}:Mute"}
    install(tmp_path, "plug_five", points)
    assert f"the engine gone ({module}:Gone) does not exist" in refusal("gone")
    assert "cannot be imported: ModuleNotFoundError" in refusal("nowhere")
    assert "it has no transcribe" in refusal("mute")


# -- description -------------------------------------------------------------------------------
def test_a_class_is_described_without_being_built(module: str) -> None:
    described = describe(load(f"{module}:Mine"))
    assert (described.name, described.version, described.start) == ("mine", "2.1", "spawn")
    assert described.where == f"{module}:Mine"
    assert described.summary == "Says nothing. The second line."
    inner = describe(load(f"{module}:Mine.Inner"))
    assert (inner.version, inner.start, inner.summary) == ("", "fork", "")


# -- the worked example ------------------------------------------------------------------------
def test_the_example_in_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPOSITORY / "docs" / "engines.md").read_text(encoding="utf-8")
    example = page.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "loudness.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    engine = load("loudness:Loudness")({"limit": 2000})
    audio = PcmAudio(silence(12) + tone(8), start_s=1.0)
    segments = list(engine.transcribe(audio, TranscribeOptions()))
    assert [segment.text for segment in segments] == ["quiet", "loud"]
    assert segments[0].start_s == 1.0
    assert segments[0].end_s == segments[1].start_s
    assert segments[1].end_s == pytest.approx(20.0)
    with pytest.raises(InvalidAudioError, match=r"test.wav: loudness has no language"):
        list(engine.transcribe(audio, TranscribeOptions(languages=("en",))))
