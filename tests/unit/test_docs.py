"""The documents become pages without a broken link, and none is left out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    target = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert warnings == []
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_built(site: Path) -> None:
    pages = sorted(p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md"))
    built = [p.with_name("index.html") if p.name == "README.md" else p.with_suffix(".html")
             for p in pages]  # fmt: skip
    assert [str(page) for page in built if not (site / page).exists()] == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loads = re.compile(r"""<(?:script|link|img)[^>]*(?:src|href)=["'](?:https?:)?//[^"']*""")
    found = {loads.search(page.read_text()) for page in site.rglob("*.html")}
    assert found == {None}


def test_what_looks_like_a_list_is_one(site: Path) -> None:
    """Python-Markdown wants an empty line before a list; GitHub does not."""
    wrong = re.compile(r"<p>[^<]*\n(?:- |\* |1\. )")
    found = {page.name for page in site.rglob("*.html") if wrong.search(page.read_text())}
    assert found == set()
