"""The worked example of an engine, installed as its page says, transcribes for the real daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sttd.engines.loading import BUILT_IN
from tests.support.daemon import ROOT, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

EXAMPLE = ROOT / "docs" / "examples" / "voice-activity"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as pip installs it, without any network."""
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    folder = tmp_path_factory.mktemp("example")
    source = folder / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    apart = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "site")]
    done = subprocess.run(
        [*pip, *apart, str(source)], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


def environment(installed: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{installed}"}


def test_its_own_tests_pass(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "--rootdir", str(installed), "-c", os.devnull, str(EXAMPLE / "tests")],
        capture_output=True,
        text=True,
        check=False,
        cwd=installed,
        env=environment(installed) | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_found_by_the_name_of_its_entry_point(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "sttd.toml").write_text(
        f'state_dir = "{tmp_path}/state"\n'
        f'[control]\nendpoint = "ipc://{tmp_path}/c"\nevents = "ipc://{tmp_path}/e"\ngroup = ""\n'
        '[limits]\nmin_free_disk = 0\n'
        '[engine]\nname = "voice-activity"\n[engine.options]\ntext = "somebody"\n'
    )  # fmt: skip
    tone(tmp_path / "a.wav", 1.0)

    done = subprocess.run(
        [sys.executable, "-m", "sttd", "run-once", "-c", str(tmp_path / "sttd.toml"),
         str(tmp_path / "a.wav")],
        capture_output=True,
        text=True,
        check=False,
        env=environment(installed),
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "somebody" in done.stdout


def test_the_daemon_transcribes_with_it_and_a_job_may_have_its_own_options(
    installed: Path, tmp_path: Path
) -> None:
    with daemon(engine={"name": "voice-activity"}) as sttd:
        sttd.start(env=environment(installed))
        inbox, outbox = sttd.state / "inbox", sttd.state / "outbox"
        tone(tmp_path / "a.wav", 1.0)
        (inbox / "own.wav.json").write_text('{"options": {"text": "here"}}')
        (inbox / "wrong.wav.json").write_text('{"options": {"texts": "here"}}')
        for name in ("plain", "own", "wrong"):
            shutil.copy(tmp_path / "a.wav", inbox / f"{name}.wav.part")
            (inbox / f"{name}.wav.part").rename(inbox / f"{name}.wav")
        eventually(
            lambda: (outbox / "plain.json").exists() and (outbox / "own.json").exists(),
            "transcripts are there",
        )
        failure = sttd.state / "failed" / "wrong.wav.error.json"
        eventually(failure.exists, "the wrong one has failed")
        plain, own = (json.loads((outbox / f"{n}.json").read_text()) for n in ("plain", "own"))
        assert plain["engine"] == {"name": "voice-activity", "version": "1.0"}
        assert plain["text"] == "[speech]"
        assert own["text"] == "here"
        assert "unknown option 'texts'" in json.loads(failure.read_text())["message"]
        assert sttd.json("status")["engine"]["name"] == "voice-activity"
        assert sttd.stop() == 0


def test_its_page_shows_the_options_that_there_are(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (EXAMPLE / "README.md").read_text()
    shown = tomllib.loads(page.split("```toml\n")[1].split("```")[0])["engine"]
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    assert {shown["name"]: "sttd_voice_activity:VoiceActivity"} == project["entry-points"][
        "sttd.engines"
    ]
    assert shown["name"] not in BUILT_IN
    monkeypatch.syspath_prepend(str(installed))
    detection = __import__("sttd_voice_activity.detection").detection
    options = {name: value for name, value in shown["options"].items() if name != "text"}
    assert detection.Sensitivity() == detection.Sensitivity(**options)
    assert options.keys() == detection.Sensitivity.__dataclass_fields__.keys()
