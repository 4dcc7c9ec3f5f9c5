"""The figures' closed lists, held against what the daemon knows."""

from __future__ import annotations

import re
from pathlib import Path

from sttd.supervisor.figures import TROUBLES

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("core/supervision.py", "supervisor/deeds.py", "supervisor/telling.py")


def test_whatever_the_daemon_can_be_degraded_for_has_its_series() -> None:
    text = "".join((ROOT / "sttd" / path).read_text() for path in SOURCES)
    found = re.findall(r"""(?:_trouble\(|TroubleChanged\(|troubles\[)"(\w+)\"""", text)
    assert sorted(set(found)) == list(TROUBLES)


def test_nobody_else_speaks_of_trouble() -> None:
    speaking = {
        str(path.relative_to(ROOT / "sttd"))
        for path in (ROOT / "sttd").rglob("*.py")
        if re.search(r"TroubleChanged\(\s*\"", path.read_text())
    }
    assert speaking <= set(SOURCES)
