"""What the machine is said to have."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from sttd.supervisor import machine


def test_memory_is_what_psutil_says() -> None:
    total, available = machine._machine_bytes()

    assert total == psutil.virtual_memory().total
    assert 0 < available <= total


@pytest.mark.parametrize("text", ["", "MemTotal: much\n", "MemTotal: 1 kB\nMemFree: 1 kB\n"])
def test_where_the_kernel_does_not_say_psutil_is_asked(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "meminfo"
    file.write_text(text)
    monkeypatch.setattr(machine, "MEMORY", str(file))

    assert machine._machine_bytes()[0] == psutil.virtual_memory().total


def test_pressure_is_a_percentage_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.pressure").write_text(
        "some avg10=1.25 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00\n"
    )
    assert machine._pressure(tmp_path) == 1.25
    monkeypatch.setattr(machine, "PRESSURE", str(tmp_path / "none"))
    assert machine._pressure(None) == 0.0
