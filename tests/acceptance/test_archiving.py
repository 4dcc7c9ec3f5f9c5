"""Operators move done/ and failed/ about: they are made again, waited for, or refused."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

ENDS: list[tuple[str, dict[str, object] | None]] = [
    ("done", None),
    ("failed", {"options": {"raise": "invalid"}}),
]


@pytest.fixture
def another_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the temporary one."""
    for place in ("/dev/shm", "/var/tmp"):
        if os.path.isdir(place) and os.stat(place).st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                yield Path(folder)
            return
    pytest.skip("no other file system at hand")


def reasons(sttd: Daemon) -> str:
    return " ".join(sttd.status()["daemon"]["reasons"])


@pytest.mark.parametrize(("folder", "options"), ENDS, ids=["done", "failed"])
def test_a_folder_of_originals_that_was_moved_away_is_made_again(
    tmp_path: Path, folder: str, options: dict[str, object] | None
) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    with daemon() as sttd:
        sttd.start()
        for name in ("one.wav", "a/two.wav", "three.wav"):
            sttd.drop(name, wav, options)
            eventually((sttd.state / folder / name).exists)
            eventually(lambda: sttd.leftovers() == [])
            (sttd.state / folder).rename(tmp_path / f"archive of {Path(name).stem}")
        assert sttd.events("daemon.degraded") == []
        assert sttd.stop() == 0


@pytest.mark.parametrize(("folder", "options"), ENDS, ids=["done", "failed"])
def test_originals_that_cannot_be_put_away_wait_in_the_spool_and_are_told(
    tmp_path: Path, folder: str, options: dict[str, object] | None
) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    with daemon() as sttd:
        sttd.start()
        place = sttd.state / folder
        place.rmdir()
        place.write_text("a file in its place")
        sttd.drop("one.wav", wav, options)
        eventually(lambda: str(place) in reasons(sttd), "it says what is wrong")
        sttd.drop("two.wav", wav, {"options": {"sleep_s": 0.1}})
        if folder == "failed":  # it goes on with what does not need that folder
            sttd.transcript("two")
        assert len(sttd.events("daemon.degraded")) == 1
        place.unlink()
        eventually((place / "one.wav").exists)
        eventually(lambda: reasons(sttd) == "", "it is over")
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.stop() == 0


@pytest.mark.parametrize("folder", ["done", "failed"])
def test_a_folder_of_originals_on_another_disk_is_refused_at_the_start(
    another_disk: Path, folder: str
) -> None:
    with daemon() as sttd:
        sttd.state.mkdir()
        (sttd.state / folder).symlink_to(another_disk)
        sttd.start(wait=False)
        assert sttd.process is not None
        assert sttd.process.wait(30) == 2
        said = sttd.log_path.read_text()
        assert f"{sttd.state / folder}: leads to {another_disk}, on another" in said
        assert "state_dir" in said
