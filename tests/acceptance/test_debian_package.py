"""The Debian package: its scripts in every run; the whole of it in `make package-test`.

The latter installs, upgrades and purges under a systemd of its own, over a bare Debian that has
never seen sttd; it needs root and minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sttd import __version__
from tests.support import debian
from tests.support.daemon import ROOT
from tests.support.machine import Container, container
from tests.support.waiting import eventually
from tests.support.wav import tone

SCRIPTS = [debian.PACKAGING / name for name in ("postinst", "prerm", "postrm")]
BUILD = ROOT / "packaging" / "deb.sh"
CONFIG = "/etc/sttd/conf.d/20-test.toml"
DRILL = '[inbox]\nsettle = 0\n\n[limits]\nmin_free_disk = 0\n\n[engine]\nname = "drill"\n'


# -- every run -------------------------------------------------------------------------------------
@pytest.mark.parametrize("script", [BUILD, *SCRIPTS], ids=lambda path: path.name)
def test_the_scripts_are_plain_shell(script: Path) -> None:
    assert script.read_text().startswith("#!/bin/sh\n")
    assert os.access(script, os.X_OK)
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert re.search(r"^set -eu?$", script.read_text(), re.MULTILINE)
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", str(script)], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize("action", ["failed-upgrade", "abort-install", "disappear"])
def test_what_does_not_concern_a_script_changes_nothing(script: Path, action: str) -> None:
    done = subprocess.run(
        ["sh", "-ex", str(script), action], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    tools = ("systemctl", "systemd-", "deb-systemd", "rm -", "userdel", "py3", "find")
    assert [tool for tool in tools if f"+ {tool}" in done.stderr] == []


def test_the_package_puts_things_where_the_unit_and_the_documents_say() -> None:
    script = BUILD.read_text()
    unit = (ROOT / "systemd" / "sttd.service").read_text()
    assert "ExecStart=/opt/sttd/bin/sttd\n" in unit
    assert "stage/opt/sttd" in script
    control = (debian.PACKAGING / "control.in").read_text()
    for field in ("Package", "Version", "Architecture", "Maintainer", "Depends", "Description"):
        assert re.search(rf"^{field}: ", control, re.MULTILINE)
    blanks = set(re.findall(r"@\w+@", control))
    assert blanks == {blank for blank in blanks if f"s/{blank}/" in script}
    for file in re.findall(r'put \d+ "\$root/([^"]+)"', script):
        assert (ROOT / file).exists(), file


def test_every_override_of_lintian_says_why() -> None:
    lines = (debian.PACKAGING / "lintian-overrides").read_text().splitlines()
    assert lines[0].startswith("#")
    assert all(line.startswith(("#", "sttd: ")) for line in lines)


# -- make package-test -----------------------------------------------------------------------------
installing = [
    pytest.mark.package,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(debian.unavailable()), reason=debian.unavailable() or "-"),
]


class Packages:
    """What the tests install, and into what."""

    def __init__(self, home: Path) -> None:
        self.this = debian.package(home)
        self.newer = debian.newer(self.this, home)
        self.tree = debian.tree(home)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return Packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def bare(packages: Packages, tmp_path: Path) -> Iterator[Container]:
    """A booted Debian with both packages in /root and nothing installed."""
    with container(tmp_path, packages.tree) as machine:
        for name, deb in (("this", packages.this), ("newer", packages.newer)):
            (machine.state / f"{name}.deb").write_bytes(deb.read_bytes())
            machine.run("mv", f"/var/lib/sttd/{name}.deb", "/root/")
        speech = machine.state / "speech"
        speech.write_bytes((ROOT / "tests/recordings/answer-soon.ogg").read_bytes())
        machine.run("mv", "/var/lib/sttd/speech", "/root/speech.ogg")
        tone(machine.state / "tone", 4.0)
        machine.run("mv", "/var/lib/sttd/tone", "/root/tone.wav")
        yield machine


@pytest.fixture
def rehearsing(bare: Container) -> Container:
    """sttd installed and running on the engine `drill`."""
    bare.write(CONFIG, DRILL)  # as a provisioning tool does it: the configuration is there first
    install(bare, "this")
    assert active(bare)
    return bare


def readme_steps() -> list[str]:
    """What the README tells people to type."""
    section = (ROOT / "README.md").read_text().split("## Install the Debian package\n")[1]
    (block,) = re.findall(r"^```sh\n(.*?)^```", section.split("\n## ")[0], re.MULTILINE | re.DOTALL)
    return [line.partition("#")[0].strip() for line in block.splitlines()]


def install(machine: Container, name: str, drain_s: int = 0) -> str:
    patience = f"STTD_UPGRADE_DRAIN={drain_s}"
    return machine.run("env", patience, "dpkg", "-i", f"/root/{name}.deb", timeout_s=600)


def active(machine: Container) -> bool:
    return machine.attempt("systemctl", "is-active", "--quiet", "sttd").returncode == 0


def there(machine: Container, path: str) -> bool:
    return machine.attempt("test", "-e", path).returncode == 0


def drop(machine: Container, name: str, options: dict[str, Any]) -> None:
    machine.write(f"/var/lib/sttd/inbox/{name}.json", json.dumps({"options": options}), "640")
    machine.run("cp", "/root/tone.wav", f"/var/lib/sttd/inbox/.{name}")
    machine.run("mv", f"/var/lib/sttd/inbox/.{name}", f"/var/lib/sttd/inbox/{name}")


def jobs(machine: Container) -> dict[str, Any]:
    """Every job by the name of its recording."""
    listed = json.loads(machine.run("sttctl", "jobs", "--json"))["jobs"]
    return {os.path.basename(job["source"]["name"]): job for job in listed}


def running(machine: Container, name: str) -> bool:
    job = jobs(machine).get(name)
    return job is not None and job["state"] == "running"


def transcribed(machine: Container, stem: str) -> None:
    path = f"/var/lib/sttd/outbox/{stem}.json"
    eventually(lambda: there(machine, path), f"{stem}\n{machine.journal()[-3000:]}", 90)


@pytest.mark.usefixtures("packages")
class TestInstalled:
    pytestmark = installing

    def test_a_fresh_installation_says_what_to_do_and_init_makes_a_service_of_it(
        self, bare: Container
    ) -> None:
        make, apt, init, start = readme_steps()
        assert (make, init) == ("make deb", "sttd init")
        told = bare.run(
            "sh", "-c", apt.replace("./dist/sttd_*.deb", "-y /root/this.deb"), timeout_s=600
        )
        assert "was not started" in told
        assert "sttd init" in told
        assert bare.run("systemctl", "is-enabled", "sttd").strip() == "enabled"
        assert not active(bare)
        bare.attempt("systemctl", "start", "sttd")  # all the same
        eventually(lambda: bare.show("ActiveState") == "failed")
        assert (bare.show("ExecMainStatus"), bare.show("NRestarts")) == ("2", "0")
        assert "sttd init asks for it" in bare.journal()

        told = bare.run("sttd", "init", text="azur\npocketsphinx\n\n")  # one wrong answer
        assert "conf.d/10-init.toml is written and valid" in told
        bare.run("sttd", "check-engine")
        bare.run("sh", "-c", start)
        bare.run("cp", "/root/speech.ogg", "/var/lib/sttd/inbox/")
        transcribed(bare, "speech")
        said = bare.run("cat", "/var/lib/sttd/outbox/speech.txt")
        assert "letter" in said
        assert bare.run("dpkg", "--verify", "sttd") == ""  # nothing of the package was changed
        assert f"version {__version__}" in bare.run("sttctl", "status")

    def test_what_an_operator_expects_of_a_package_is_there(self, rehearsing: Container) -> None:
        for path in (
            *("/usr/bin/sttd", "/usr/bin/sttctl", "/usr/share/doc/sttd/copyright"),
            *(
                "/usr/share/bash-completion/completions/sttctl",
                "/usr/share/sttd/sttd.service.d/local-engine.conf",
            ),
            "/usr/share/zsh/vendor-completions/_sttctl",
            "/usr/share/fish/vendor_completions.d/sttctl.fish",
        ):
            assert there(rehearsing, path), path
        listed = rehearsing.run("dpkg", "-L", "sttd")
        for page in (ROOT / "man").glob("*.[158]"):
            assert f"/man{page.suffix[1:]}/{page.name}.gz" in listed
        conffiles = rehearsing.run("dpkg-query", "-W", "-f", "${Conffiles}", "sttd")
        assert re.findall(r"/\S+", conffiles) == ["/etc/sttd/sttd.toml"]
        compiled = rehearsing.run("find", "/opt/sttd", "-name", "supervision.*.pyc")
        assert compiled.count("\n") == 1
        assert "/tmp" not in rehearsing.run("head", "-1", "/opt/sttd/bin/sttd")

    def test_an_upgrade_with_a_job_running_loses_nothing(self, rehearsing: Container) -> None:
        drop(rehearsing, "long.wav", {"segments": 40, "sleep_s": 20})
        eventually(lambda: running(rehearsing, "long.wav"))
        install(rehearsing, "newer")
        assert active(rehearsing)
        assert f"version {debian.NEWER}" in rehearsing.run("sttctl", "status")
        drop(rehearsing, "after.wav", {})
        transcribed(rehearsing, "after")
        transcribed(rehearsing, "long")
        long = jobs(rehearsing)["long.wav"]
        assert (long["state"], long["attempts"]) == ("succeeded", 2)
        published = rehearsing.run("ls", "/var/lib/sttd/outbox").split()
        assert [name for name in published if name.endswith(".json")] == ["after.json", "long.json"]

    def test_an_upgrade_lets_jobs_finish_that_can(self, rehearsing: Container) -> None:
        drop(rehearsing, "short.wav", {"segments": 10, "sleep_s": 5})
        eventually(lambda: running(rehearsing, "short.wav"))
        told = install(rehearsing, "newer", drain_s=60)
        assert "letting running jobs finish" in told
        transcribed(rehearsing, "short")
        short = jobs(rehearsing)["short.wav"]
        assert (short["state"], short["attempts"]) == ("succeeded", 1)

    def test_an_upgrade_leaves_alone_what_the_administrator_decided(
        self, rehearsing: Container
    ) -> None:
        rehearsing.run("systemctl", "disable", "--now", "sttd")
        rehearsing.run("sh", "-c", "echo '# mine' >> /etc/sttd/sttd.toml")
        install(rehearsing, "newer")
        assert not active(rehearsing)
        enabled = rehearsing.attempt("systemctl", "is-enabled", "sttd").stdout.strip()
        assert enabled == "disabled"
        assert "# mine" in rehearsing.run("cat", "/etc/sttd/sttd.toml")

    def test_a_purge_takes_everything_but_what_belongs_to_others(
        self, rehearsing: Container
    ) -> None:
        drop(rehearsing, "done.wav", {})
        transcribed(rehearsing, "done")
        drop(rehearsing, "waiting.wav", {"segments": 1000, "sleep_s": 1000})
        eventually(lambda: running(rehearsing, "waiting.wav"))
        removed = ("env", "STTD_UPGRADE_DRAIN=0", "dpkg", "--remove", "sttd")
        rehearsing.run(*removed, timeout_s=300)
        assert not active(rehearsing)
        assert not there(rehearsing, "/opt/sttd")
        assert there(rehearsing, CONFIG)

        told = rehearsing.run("dpkg", "--purge", "sttd", timeout_s=300)
        assert "not deleted" in told
        assert not there(rehearsing, "/etc/sttd")
        for kept in ("outbox/done.json", "done/done.wav", "ledger/sttd.db"):
            assert there(rehearsing, f"/var/lib/sttd/{kept}"), kept
        spool = rehearsing.run("find", "/var/lib/sttd/spool", "-type", "f")
        assert "segments.jsonl" in spool
        rehearsing.run("id", "sttd")

        # Installed again, it goes on where it was.
        rehearsing.write(CONFIG, DRILL)
        install(rehearsing, "newer")
        assert jobs(rehearsing)["waiting.wav"]["state"] in {"queued", "running"}
        rehearsing.run("sttctl", "cancel", jobs(rehearsing)["waiting.wav"]["job"])
        eventually(lambda: jobs(rehearsing)["waiting.wav"]["state"] == "cancelled")

        rehearsing.run(*removed, timeout_s=300)
        rehearsing.run(
            "sh", "-c", "rm -rf /var/lib/sttd/*box/* /var/lib/sttd/done/* /var/lib/sttd/failed/*"
        )
        assert "not deleted" not in rehearsing.run("dpkg", "--purge", "sttd")
        assert rehearsing.run("ls", "-A", "/var/lib/sttd") == ""
        for name, database in (("sttd", "passwd"), ("sttd", "group"), ("sttd-drop", "group")):
            assert rehearsing.attempt("getent", database, name).returncode == 2
        left = rehearsing.run("sh", "-c", "find /etc /usr /opt /run -iname '*sttd*' 2>&-; :")
        assert left == ""
