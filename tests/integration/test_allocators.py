"""The memory allocator that workers get."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sttd.config import changes, load
from sttd.config.allocators import MissingAllocatorError, environment, preload
from sttd.config.sections import Pool
from tests.support.daemon import Daemon, daemon

NOWHERE = Path("/nonexistent/etc/sttd")


def jemalloc() -> str:
    try:
        return preload("jemalloc")
    except MissingAllocatorError:
        return ""


needs_jemalloc = pytest.mark.skipif(not jemalloc(), reason="libjemalloc.so.2 is not installed")


class Told:
    """What was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, **fields: Any) -> None:
        self.events.append((name, fields))


def test_arenas_are_limited_unless_the_daemons_own_environment_says_otherwise() -> None:
    told = Told()
    assert environment({"A": "b"}, Pool(), told) == {"A": "b", "MALLOC_ARENA_MAX": "2"}
    assert environment({}, Pool(malloc_arena_max=0), told) == {}
    given = {"MALLOC_ARENA_MAX": "7"}
    assert environment(given, Pool(), told) == given
    assert told.events == []


def test_a_library_is_preloaded_before_those_that_are_already(tmp_path: Path) -> None:
    library = tmp_path / "libmine.so"
    library.touch()
    found = environment({"LD_PRELOAD": "/x.so"}, Pool(allocator=str(library)), Told())
    assert found == {"LD_PRELOAD": f"{library} /x.so"}


def test_a_missing_library_is_told_and_done_without(tmp_path: Path) -> None:
    told = Told()
    found = environment({}, Pool(allocator=f"{tmp_path}/no.so"), told)
    assert found == {"MALLOC_ARENA_MAX": "2"}
    ((name, fields),) = told.events
    assert (name, fields["key"]) == ("config.warning", "pool.allocator")
    assert f"there is no {tmp_path}/no.so" in fields["message"]


@pytest.mark.parametrize(
    ("variable", "value", "renews"),
    [
        ("STTD_POOL__ALLOCATOR", "jemalloc", True),
        ("STTD_POOL__MALLOC_ARENA_MAX", "4", True),
        ("STTD_RECYCLE__TRIM_THRESHOLD", "1MiB", True),
        ("STTD_POOL__STANDBY", "3", False),
    ],
)
def test_what_a_template_was_started_with_takes_new_workers(
    variable: str, value: str, renews: bool
) -> None:
    new = load(environ={variable: value}, etc=NOWHERE)
    (change,) = changes(load(environ={}, etc=NOWHERE), new)
    assert change.renews_workers is renews


def variables(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def idle(sttd: Daemon, count: int) -> int:
    return int(sttd.until("worker.ready", count)["pid"])


def test_workers_live_with_the_allocator_that_is_set_and_a_reload_renews_them() -> None:
    with daemon(pool={"workers": 1, "standby": 0, "malloc_arena_max": 3}) as sttd:
        sttd.start()
        first = idle(sttd, 1)
        assert variables(first)["MALLOC_ARENA_MAX"] == "3"
        sttd.configure(pool={"workers": 1, "standby": 0, "malloc_arena_max": 1})
        os.kill(sttd.pid, signal.SIGHUP)
        second = idle(sttd, 2)
        assert variables(second)["MALLOC_ARENA_MAX"] == "1"
        sttd.until("worker.recycled", reason="reloaded")


@needs_jemalloc
def test_jemalloc_is_loaded_into_workers_and_into_no_other_process() -> None:
    with daemon(pool={"workers": 1, "standby": 0, "allocator": "jemalloc"}) as sttd:
        sttd.start()
        assert "jemalloc" in Path(f"/proc/{idle(sttd, 1)}/maps").read_text()
        assert "jemalloc" not in Path(f"/proc/{sttd.pid}/maps").read_text()


TRIM = """
import os
from sttd import linux
from sttd.worker.tidy import rss_bytes
blocks = [bytes([1]) * 3000 for _ in range(30_000)]
blocks[::2] = [None] * 15_000
blocks = None
grown = rss_bytes()
assert linux.malloc_trim()
print(grown - rss_bytes())
"""


@needs_jemalloc
def test_what_jemalloc_holds_back_is_given_back_by_a_trim() -> None:
    env = environment(os.environ, Pool(allocator="jemalloc"), Told())
    env["MALLOC_CONF"] += ",dirty_decay_ms:-1"  # nothing goes back by itself
    done = subprocess.run(
        [sys.executable, "-c", TRIM], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40 << 20
