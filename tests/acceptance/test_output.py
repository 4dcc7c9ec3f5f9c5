"""What engines print, as it reaches the log of a real daemon: whose it is, and no flood."""

from __future__ import annotations

from pathlib import Path

import pytest

from sttd.supervisor.chatter import MOST_LINES
from tests.support.daemon import daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

ENGINE = {"name": "tests.support.engines:Chatty"}


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return tone(tmp_path / "a.wav", 0.3)


def test_a_line_is_told_with_the_job_and_the_worker_that_printed_it(wav: Path) -> None:
    with daemon(engine=ENGINE, pool={"workers": 2}) as sttd:
        sttd.start()
        for name in ("a.wav", "b.wav", "c.wav"):
            sttd.drop(name, wav, {"options": {"lines": 3}})
        sttd.until("job.succeeded", 3)
        for done in sttd.events("job.succeeded"):
            told = [e for e in sttd.events("worker.output") if e.get("job") == done["job"]]
            assert sorted(e["line"] for e in told) == sorted(
                f"{done['source']} by {who} {n}"
                for n in range(3)
                for who in ("Python", "a library")
            )
            assert {e["worker"] for e in told} == {done["worker"]}
            assert all(e["pid"] for e in told)


def test_an_engine_that_prints_a_flood_fills_no_log_and_delays_no_job(wav: Path) -> None:
    with daemon(engine=ENGINE, pool={"workers": 2}) as sttd:
        sttd.start()
        sttd.drop("flood.wav", wav, {"options": {"lines": 50_000}})
        sttd.until("job.started")
        sttd.drop("calm.wav", wav, {"options": {"lines": 1}})
        sttd.until("job.succeeded", 2)
        flood = sttd.until("job.succeeded", source="flood.wav")["job"]
        last = sttd.until("worker.output", dropped=100_000 - MOST_LINES)
        told = [e for e in sttd.events("worker.output") if e.get("job") == flood]
        assert told[-1] == last
        assert len(told) == MOST_LINES + 1
        assert last["line"] == f"{100_000 - MOST_LINES} more lines were left out"
        calm = sttd.until("job.succeeded", source="calm.wav")["job"]
        assert sum(e.get("job") == calm for e in sttd.events("worker.output")) == 2


def test_last_words_are_told_before_the_death_and_belong_to_the_job(wav: Path) -> None:
    with daemon(engine=ENGINE) as sttd:
        sttd.start()
        sttd.drop("last.wav", wav, {"options": {"lines": 300, "segfault": True}})
        sttd.until("job.failed")
        sttd.until("worker.output", 2, dropped=600 - MOST_LINES)  # told by the event, so after it
        names = [e["event"] for e in sttd.events("worker.output", "worker.exited")]
        first = sttd.events("job.started")[0]["job"]
        told = [e for e in sttd.events("worker.output") if e.get("job") == first]
        dropped = sum(e.get("dropped", 0) for e in told)
        lines = sum("dropped" not in e for e in told)
        assert dropped + lines == 600 * len(sttd.events("worker.exited"))
        assert names[0] == "worker.output"


def test_lines_of_a_worker_without_a_job_are_told_too(tmp_path: Path) -> None:
    plug_in = tmp_path / "greeting_engine.py"
    plug_in.write_text(
        "from tests.support.engines import Echo\n"
        "class Greeting(Echo):\n"
        "    def begin_worker(self):\n"
        "        print('here I am')\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    with daemon(engine={"name": "greeting_engine:Greeting"}) as sttd:
        sttd.start(env={"PYTHONPATH": f"{tmp_path}:{root}"})
        told = sttd.until("worker.output", line="here I am")
        assert "job" not in told
        eventually(lambda: told["worker"] in {e["worker"] for e in sttd.events("worker.ready")})
