"""`sttd init`, as somebody new to it would use it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sttd import setting_up
from sttd.cli import main
from sttd.config import load

NOWHERE = Path("/nonexistent/etc/sttd")


def init(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(main, ["init", *arguments], input=answers)


def test_flags_alone_make_a_configuration_that_is_valid(tmp_path: Path) -> None:
    target, state = tmp_path / "sttd.toml", tmp_path / "state"
    done = init("--engine", "drill", "--state-dir", str(state), "--yes", "-o", str(target))
    assert done.exit_code == 0, done.output
    settings = load(target, {}, NOWHERE)
    assert (settings.engine.name, settings.state_dir) == ("drill", state)
    assert settings.control.endpoint == f"ipc://{state}/control.sock"
    assert f"sttd -c {target}" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["sttd.toml"]


def test_a_wrong_answer_is_asked_for_again(tmp_path: Path) -> None:
    pytest.importorskip("azure.cognitiveservices.speech")
    target = tmp_path / "sttd.toml"
    secret = "0123456789abcdef0123456789abcdef"  # the key where its name belongs
    answers = f"azur\nazure\nkey\nWest Europe\nwesteurope\n{secret}\nmy-key\nstate\n{tmp_path}/s\n"
    done = init("-o", str(target), answers=answers)
    assert done.exit_code == 0, done.output
    azure = load(target, {}, NOWHERE).engine.azure
    assert (azure["region"], azure["auth"], azure["key"]) == ("westeurope", "key", "my-key")
    assert "read -rs STTD_CREDENTIAL_MY_KEY && export STTD_CREDENTIAL_MY_KEY\n" in done.output
    assert f"STTD_CONFIG={target} sttctl status\n" in done.output
    assert done.output.count("Error:") == 4
    assert "warning" not in done.output  # that the key is missing: the first step says it


def test_who_signs_in_by_entra_on_a_regional_address_is_asked_for_the_resource(
    tmp_path: Path,
) -> None:
    pytest.importorskip("azure.cognitiveservices.speech")
    target, resource = tmp_path / "sttd.toml", "/subscriptions/1/resourceGroups/g/accounts/a"
    flags = ("--engine", "azure", "--auth", "entra", "--region", "westeurope")
    done = init(*flags, "-o", str(target), answers=f"my-resource\n{resource}\n{tmp_path}/s\n")
    assert done.exit_code == 0, done.output
    assert done.output.count("Error:") == 1
    assert load(target, {}, NOWHERE).engine.azure["resource_id"] == resource
    target.unlink()
    done = init(*flags, "--resource-id", resource, "--yes", "-o", str(target))
    assert done.exit_code == 0, done.output


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "sttd.toml"
    target.write_text("# mine\n")
    done = init("--engine", "drill", "--yes", "-o", str(target))
    assert done.exit_code == 1
    assert "is there already" in done.output
    assert target.read_text() == "# mine\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--engine", "azur"), 'there is no engine "azur"'),
        (("--engine", "drill", "--state-dir", "/"), "must be a folder of its own"),
        (("--engine", "azure", "--auth", "key", "--region", "westeurope"), "name of a credential"),
        (("--engine", "azure", "--auth", "entra", "--region", "westeurope"), "resource_id"),
        (("--engine", "os:Nope"), "os has no Nope"),
    ],
)
def test_what_would_not_work_is_not_written(
    flags: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    target = tmp_path / "sttd.toml"
    done = init(*flags, "--yes", "-o", str(target))
    assert done.exit_code == 2
    assert message in done.output
    assert str(target) in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    done = init("--engine", "drill", "--yes", "-o", str(tmp_path / "no" / "sttd.toml"))
    assert done.exit_code == 1
    assert "No such file" in done.output


def test_beside_the_file_of_a_package_the_answers_are_laid_over_it(tmp_path: Path) -> None:
    assert setting_up.default_target(tmp_path) == tmp_path / "sttd.toml"
    (tmp_path / "sttd.toml").write_text("# the manual\n")
    assert setting_up.default_target(tmp_path) == tmp_path / "conf.d" / "10-init.toml"


def test_what_is_in_the_way_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "sttd.toml").write_text("# mine\n")
    done = init("-o", str(tmp_path / "sttd.toml"), answers="azure\n")
    assert done.exit_code == 1
    assert "Engine" not in done.output


@pytest.mark.parametrize("target", ["/etc/sttd/sttd.toml", "/etc/sttd/conf.d/10-init.toml"])
def test_the_next_steps_of_a_service_can_be_typed_as_they_stand(target: str) -> None:
    wishes = setting_up.Wishes(engine="azure", auth="key", key="my-key", state_dir="/srv/sttd")
    told = setting_up.next_steps(wishes, Path(target))
    assert "install -m 640 -g sttd /dev/stdin /etc/sttd/credentials/my-key\n" in told
    assert "sttd check-engine\n" in told
    assert "systemctl enable --now sttd\n" in told
    assert "docs/install.md" in told
    assert "[control]" not in setting_up.text_of(wishes, Path(target))  # its sockets: /run/sttd
