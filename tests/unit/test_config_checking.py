"""What `sttd check-config` finds on the machine."""

from __future__ import annotations

import grp
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sttd.config.checking import check
from sttd.config.problems import Problem

NOBODY = 65534
GROUP = grp.getgrgid(os.getgid()).gr_name


class Machine:
    """A configuration whose every folder is in a temporary one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {
            "STTD_STATE_DIR": str(root / "state"),
            "STTD_CONTROL__ENDPOINT": f"ipc://{root}/run/control.sock",
            "STTD_CONTROL__EVENTS": f"ipc://{root}/run/events.sock",
            "STTD_CONTROL__GROUP": GROUP,
            "STTD_ENGINE__NAME": "drill",
        }

    def check(self, **environ: str) -> list[Problem]:
        return check(None, self.environ | environ, self.root)

    def found(self, **environ: str) -> tuple[str, str]:
        (problem,) = self.check(**environ)
        return problem.level, str(problem)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_configuration_that_fits_the_machine_has_no_problem(machine: Machine) -> None:
    assert machine.check() == []
    assert list(machine.root.iterdir()) == []  # it looks and does not touch


def test_a_file_that_is_wrong_is_all_that_is_told(machine: Machine) -> None:
    level, line = machine.found(STTD_POOL__WORKERS="x")
    assert (level, "STTD_POOL__WORKERS" in line) == ("error", True)


def test_an_engine_that_is_not_there_is_told_beside_all_else_that_is_wrong(
    machine: Machine,
) -> None:
    found = machine.check(STTD_POOL__WORKERS="x", STTD_ENGINE__NAME="azur")
    assert [problem.key for problem in found] == ["pool.workers", "engine.name"]
    found = machine.check(STTD_POOL__WORKERS="x", STTD_ENGINE__NAME="a b")  # no name at all: once
    assert sorted(problem.key for problem in found) == ["engine.name", "pool.workers"]


def test_warnings_of_the_file_are_told_too(machine: Machine) -> None:
    level, line = machine.found(STTD_POOL__WORKRES="1")
    assert (level, "STTD_POOL__WORKERS" in line) == ("warning", True)


def test_a_file_in_the_place_of_a_folder_is_an_error(machine: Machine) -> None:
    (machine.root / "state").mkdir()
    (machine.root / "state/inbox").touch()
    level, line = machine.found()
    assert level == "error"
    assert f"inbox.path: {machine.root}/state/inbox is no folder" in line


def test_a_link_to_nowhere_is_no_folder(machine: Machine) -> None:
    (machine.root / "out").symlink_to("nowhere")
    level, line = machine.found(STTD_OUTBOX__PATH=str(machine.root / "out"))
    assert (level, "is no folder" in line) == ("error", True)


def as_nobody(look: Callable[[], list[Problem]]) -> list[str]:
    """What somebody finds who is not root; as root, in a child that gives its rights away."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with open(writer, "w") as answer:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            answer.write("\n".join(f"{problem.level} {problem}" for problem in look()))
        os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        lines = answer.read().splitlines()
    os.waitpid(child, 0)
    return lines


def test_a_folder_that_cannot_be_written_is_a_warning_that_names_the_user() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to nobody
        root = Path(folder)
        root.chmod(0o755)
        (root / "state").mkdir(mode=0o555)
        (root / "run").mkdir(mode=0o777)
        (root / "run").chmod(0o777)
        lines = as_nobody(Machine(root).check)
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("warning environment STTD_STATE_DIR: ") or "default: " in line
        assert f"user {user} cannot write to {root}/state" in line
    assert f"so {root}/state/inbox cannot be made" in lines[1]


def test_an_unknown_group_is_a_warning_because_the_daemon_runs_without(machine: Machine) -> None:
    level, line = machine.found(STTD_CONTROL__GROUP="no-such-group")
    assert level == "warning"
    assert 'there is no group "no-such-group"' in line


def test_a_missing_folder_to_allow_is_a_warning(machine: Machine) -> None:
    level, line = machine.found(STTD_CONTROL__ALLOW_PATHS='["/nonexistent/x"]')
    assert (level, "/nonexistent/x is no folder" in line) == ("warning", True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("azrue", 'there is no engine "azrue"; did you mean "azure"? engines are azure, drill'),
        ("xyz", 'there is no engine "xyz"; engines are azure, drill, pocketsphinx'),
        ("no_such_package.engine:Engine", "there is no module no_such_package.engine"),
        ("json.no_such_module:Engine", "there is no module json.no_such_module"),
        ("json.decoder.deeper:Engine", "there is no module json.decoder.deeper"),
    ],
)
def test_an_engine_that_is_not_installed_is_an_error(
    machine: Machine, name: str, said: str
) -> None:
    level, line = machine.found(STTD_ENGINE__NAME=name)
    assert level == "error"
    assert said in line


def test_an_engine_of_ones_own_is_found_without_being_imported(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("engines")
    package = folder / "sttd_test_engine_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('was imported')")
    (package / "inner.py").write_text("raise RuntimeError('was imported')")
    monkeypatch.syspath_prepend(folder)
    assert machine.check(STTD_ENGINE__NAME=f"{package.name}.inner:Engine") == []
    assert machine.check(STTD_ENGINE__NAME=f"{package.name}.other:Engine") != []
    assert package.name not in sys.modules


def test_an_engine_may_judge_its_own_options(machine: Machine) -> None:
    def judge(name: str, options: object) -> None:
        raise ValueError(f"{options} are not for {name}")

    environ = machine.environ | {"STTD_ENGINE__OPTIONS__A": "1"}
    (problem,) = check(None, environ, machine.root, judge)
    assert (problem.level, problem.key) == ("error", "engine.name")
    assert "the engine drill says: {'a': 1} are not for drill" in str(problem)


def test_a_credential_that_is_nowhere_is_a_warning_because_systemd_may_have_it(
    machine: Machine,
) -> None:
    level, line = machine.found(STTD_CONTROL__CURVE_SERVER_KEY="curve")
    assert level == "warning"
    assert "credential curve was not found" in line


def test_a_credential_that_others_can_read_is_an_error_that_does_not_show_it(
    machine: Machine,
) -> None:
    folder = machine.root / "credentials"
    folder.mkdir()
    (folder / "curve").write_text("hush")
    (folder / "curve").chmod(0o644)
    level, line = machine.found(STTD_CONTROL__CURVE_SERVER_KEY="curve")
    assert level == "error"
    assert "open to others" in line
    assert "hush" not in line


def test_a_credential_of_the_engine_is_looked_up_only_when_it_is_used(machine: Machine) -> None:
    pytest.importorskip("azure.cognitiveservices.speech")
    azure = {"STTD_ENGINE__NAME": "azure", "STTD_ENGINE__AZURE__KEY": "k"}
    assert machine.check(**azure) == []
    assert "credential k was not found" in machine.found(**azure, STTD_ENGINE__AZURE__AUTH="key")[1]
    found = machine.found(STTD_ENGINE__NAME="azure", STTD_ENGINE__AZURE__AUTH="key")
    assert found[0] == "error"
    assert "needs the name of a credential" in found[1]
    held = machine.check(**azure, STTD_ENGINE__AZURE__AUTH="key", STTD_CREDENTIAL_K="hush")
    assert held == []
