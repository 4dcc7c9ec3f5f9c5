"""The README's way from a bare machine to the first transcript, typed as it stands there.

In a container with a systemd of its own over this machine's root, in which no sttd is installed.
Only what the README cannot know is added: where a speech service is, and a recording.
"""

from __future__ import annotations

import subprocess
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_readme import blocks, section
from tests.speech_service.behaviour import Access
from tests.speech_service.marks import marked_pcm
from tests.speech_service.running import running_service
from tests.speech_service.server import SpeechService
from tests.support.daemon import ROOT
from tests.support.machine import Container, container, unavailable
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "-"),
    pytest.mark.timeout(600),
]

CLONE = "/root/clone"
PARTS = ("sttd", "systemd", "man", "etc", "pyproject.toml", "constraints.txt", "README.md")
KEY = "a-secret-that-nobody-may-see"
FOLLOW = "sttctl events --follow"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Container]:
    """A machine with a clone of the project and a recording in it."""
    with container(tmp_path, Path("/")) as bare:
        with tarfile.open(bare.state / "clone.tar", "w") as archive:
            for part in (*PARTS, "LICENSE"):
                archive.add(ROOT / part, part, filter=_without_caches)
        with wave.open(str(bare.state / "meeting.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(marked_pcm(2.0, 0.0))
        unpack = f"mkdir -p {CLONE} && cd {CLONE} && tar xf /var/lib/sttd/clone.tar"
        bare.run("sh", "-ec", f"{unpack} && mv /var/lib/sttd/meeting.wav .")
        (bare.state / "clone.tar").unlink()
        yield bare


def _without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


def type_in(machine: Container, line: str) -> subprocess.CompletedProcess[str]:
    """One line of the README, by root, in the clone."""
    script = f"cd {CLONE}; export PATH=/usr/local/bin:$PATH PIP_NO_COMPILE=1; {line}"
    return machine.attempt("sh", "-ec", script, timeout_s=300)


def lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line.strip()]


def test_from_a_bare_machine_to_the_first_transcript(machine: Container) -> None:
    install, start = blocks(section("Install on a virtual machine"), "sh")
    (configuration,) = blocks(section("Install on a virtual machine"), "toml")
    (first,) = blocks(section("First transcript"), "sh")
    assert FOLLOW in lines(first)

    for line in lines(install):
        done = type_in(machine, line)
        if done.returncode and "pip install" in line and "No matching distribution" in done.stderr:
            pytest.skip("no package index can be reached")
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    machine.write(f"{CLONE}/speech-key.txt", KEY)
    machine.write("/etc/sttd/sttd.toml", configuration)
    with running_service(SpeechService(access=Access(keys=(KEY,)))) as service:
        # In the place of Azure: the environment goes over the file.
        here = f"STTD_ENGINE__AZURE__REGION=\nSTTD_ENGINE__AZURE__HOST={service.host}\n"
        machine.write("/etc/sttd/sttd.env", here)
        for line in lines(start):
            done = type_in(machine, line)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}{machine.journal()}"
        for line in lines(first):
            if line == FOLLOW:  # for ever; and with something to see, once the transcript is there
                transcript = machine.state / "outbox" / "meeting.json"
                eventually(transcript.exists, "meeting is transcribed", 60)
                line = f"timeout 5 {FOLLOW} --since 10min || test $? = 124"  # noqa: PLW2901
            done = type_in(machine, line)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}{machine.journal()}"
            if FOLLOW in line:
                assert "job.succeeded" in done.stdout
        assert done.stdout.strip()  # the transcript's text
    assert (machine.state / "done" / "meeting.wav").exists()
    assert KEY not in machine.journal()
