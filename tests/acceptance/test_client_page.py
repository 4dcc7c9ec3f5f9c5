"""The examples of the Python client, run as they are shown, and what its page says of it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sttd.client import Client
from tests.support.daemon import ROOT, daemon
from tests.support.wav import tone

PAGES = ("README.md", "docs/client.md")
EXAMPLES = [
    pytest.param(code, id=f"{page}-{number}")
    for page in PAGES
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    )
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_works_as_it_is_shown(code: str, tmp_path: Path) -> None:
    for name in ("meeting.wav", "other.wav"):
        tone(tmp_path / name, 0.5)
    with daemon() as sttd:
        sttd.start()
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "STTD_SOCKET": sttd.endpoint},
        )
        assert done.returncode == 0, done.stderr
        assert "this is a drill" in done.stdout
        assert sttd.status()["queue"]["succeeded"] >= 1


def test_the_page_names_every_method_with_parameters_that_there_are() -> None:
    page = (ROOT / "docs" / "client.md").read_text()
    public = {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    shown = {
        call.func.id: call
        for text in re.findall(r"`(\w+\([^`…]*\))`", page)
        if isinstance(call := ast.parse(text, mode="eval").body, ast.Call)
        and isinstance(call.func, ast.Name)
    }
    assert public - shown.keys() == {"events"}  # which the page names with an ellipsis
    for name, call in shown.items():
        if name in public:
            given = {part.id for part in call.args if isinstance(part, ast.Name)}
            given |= {str(part.arg) for part in call.keywords}
            assert given <= set(getattr(Client, name).__annotations__), name
