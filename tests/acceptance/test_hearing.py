"""What a job says, heard while it says it: real daemons, killed and started again in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from sttd.client import (
    AsyncClient,
    Client,
    JobFailed,
    Refused,
    Segment,
    StreamRestarted,
    WaitTimeout,
)
from sttd.client.flows import JobRef
from sttd.transcripts import Transcript
from sttd.wire.codes import Code
from sttd.wire.views import JobView
from tests.support.daemon import ROOT, Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

SLOW = {"text": "one two three four five six seven eight", "segments": 8, "sleep_s": 2}
WORDS = SLOW["text"].split()  # type: ignore[attr-defined]  # a text


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return tone(tmp_path / "talk.wav", 4.0)


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """A daemon for the tests that want nothing special; some kill it and start it again."""
    with daemon() as one:
        one.start()
        yield one


@pytest.fixture
def sttd(shared: Daemon) -> Iterator[Daemon]:
    yield shared
    if shared.process is None or shared.process.poll() is not None:  # a test failed in between
        shared.start()


@pytest.fixture
def client(sttd: Daemon) -> Iterator[Client]:
    with Client(sttd.endpoint) as client:
        yield client


def texts(segments: list[Segment]) -> list[str]:
    return [segment.text for segment in segments]


def published(client: Client, job: JobRef) -> list[Segment]:
    """The segments of the transcript."""
    (done,) = client.wait(job, 60)
    return list(transcript(client, done).segments)


def transcript(client: Client, done: JobView) -> Transcript:
    return msgspec.json.decode(client.fetch(done.job, done.outputs[-1]), type=Transcript)


def beside(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# -- while it runs ------------------------------------------------------------------------------
def test_segments_are_heard_while_the_job_runs_and_each_once(client: Client, wav: Path) -> None:
    job = client.submit(wav, options={"options": SLOW})
    stream = client.segments(job)
    first = next(stream)
    assert client.show(job.job).state == "running"
    heard = [first, *stream]
    assert texts(heard) == WORDS
    assert heard == published(client, job)
    assert texts(list(client.segments(job))) == WORDS  # once more, when it is over
    original = eventually(lambda: client.show(job.job).original)
    assert str(original).startswith("done/talk")


def test_a_job_that_is_tried_again_goes_on_where_it_was(
    client: Client, wav: Path, tmp_path: Path
) -> None:
    options = {**SLOW, "segfault_after_segments": 3, "once_marker": str(tmp_path / "once")}
    job = client.submit(wav, options={"options": options})
    heard = list(client.segments(job))
    assert texts(heard) == texts(published(client, job))
    assert client.show(job.job).attempts == 2


def test_a_daemon_that_is_killed_in_the_middle_is_found_again_by_both_clients(
    sttd: Daemon, wav: Path
) -> None:
    async def both() -> tuple[list[Segment], JobView]:
        async with AsyncClient(sttd.endpoint) as client:
            job = await client.submit(wav, options={"options": SLOW})
            waiting = asyncio.create_task(client.wait(job, 60))
            heard = []
            async for segment in client.segments(job, 60):
                heard.append(segment)
                if len(heard) == 3:
                    await asyncio.to_thread(sttd.kill)
                    await asyncio.to_thread(sttd.start)
            return heard, (await waiting)[0]

    def plainly() -> None:
        with Client(sttd.endpoint) as client:
            job = client.submit(wav.read_bytes(), name="b.wav", options={"options": SLOW})
            (done,) = client.wait(job, 60)
            told.append((done.state, list(client.segments(job, 60)) == published(client, job)))

    told: list[tuple[str, bool]] = []
    other = beside(plainly)
    heard, done = asyncio.run(both())
    other.join(60)
    assert told == [("succeeded", True)]
    assert done.state == "succeeded"
    with Client(sttd.endpoint) as client:
        assert texts(heard) == texts(published(client, done))


def test_a_stream_of_the_plain_client_survives_a_killed_daemon(
    sttd: Daemon, client: Client, wav: Path
) -> None:
    job = client.submit(wav, options={"options": SLOW})
    stream = client.segments(job, 60)
    heard = [next(stream), next(stream)]
    sttd.kill()
    starting = beside(sttd.start)
    heard += stream
    starting.join(60)
    assert texts(heard) == texts(published(client, job))
    assert transcript(client, client.show(job.job)).resumed_at_s
    assert sttd.events("job.resumed")[-1]["job"] == job.job


# -- begun anew ---------------------------------------------------------------------------------
def teller(marker: Path, **options: object) -> dict[str, object]:
    return {
        "name": "tests.support.teller:Teller",
        "options": {"resume": "restart", "marker": str(marker), **options},
    }


def test_a_job_begun_anew_says_that_what_was_heard_is_void(wav: Path, tmp_path: Path) -> None:
    options = {"first": "wrong words", "second": "the right words"}
    retry = {"backoff": "1s"}
    with (
        daemon(engine=teller(tmp_path / "m", **options), retry=retry) as sttd,
        Client(sttd.endpoint) as client,
    ):
        sttd.start()
        heard: list[str] = []
        for segment in client.segments(client.submit(wav), 60, on_restart=heard.clear):
            heard += [segment.text]
        assert heard == ["the", "right", "words"]


def test_without_anybody_to_tell_it_to_a_new_beginning_ends_the_stream(
    wav: Path, tmp_path: Path
) -> None:
    options = {"first": "wrong words", "second": "the right words"}
    with (
        daemon(engine=teller(tmp_path / "m", **options), retry={"backoff": "3s"}) as sttd,
        Client(sttd.endpoint) as client,
    ):
        sttd.start()
        job = client.submit(wav)
        stream = client.segments(job, 60)
        assert [next(stream).text, next(stream).text] == ["wrong", "words"]
        with pytest.raises(StreamRestarted, match="anew"):
            next(stream)
        assert texts(list(client.segments(job, 60))) == ["the", "right", "words"]


def test_an_engine_that_goes_back_in_time_gives_nothing_twice(wav: Path) -> None:
    engine = {
        "name": "tests.support.teller:Teller",
        "options": {"first": "a b a c b a", "unordered": True},
    }
    with daemon(engine=engine) as sttd, Client(sttd.endpoint) as client:
        sttd.start()
        heard = texts(list(client.segments(client.submit(wav), 60)))
        assert sorted(heard) == sorted("abacba")


# -- how it ends --------------------------------------------------------------------------------
def test_a_job_that_fails_names_its_cause(client: Client, wav: Path) -> None:
    options = {**SLOW, "sleep_s": 0, "raise": "invalid", "message": "no words", "after_segments": 2}
    job = client.submit(wav, options={"options": options})
    with pytest.raises(JobFailed, match="invalid_audio: no words") as failed:
        list(client.segments(job, 60))
    assert failed.value.job.state == "failed"


def test_a_job_that_takes_too_long_says_how_far_it_is(client: Client, wav: Path) -> None:
    job = client.submit(wav, options={"options": {**SLOW, "sleep_s": 60}})
    with pytest.raises(WaitTimeout) as over:
        list(client.segments(job, 0.5))
    assert over.value.jobs[0].job == job.job
    client.cancel(job.job)
    with pytest.raises(JobFailed, match="cancelled"):
        list(client.segments(job, 60))


def test_what_is_no_job_and_no_cursor_is_refused_by_name(
    sttd: Daemon, client: Client, wav: Path
) -> None:
    from sttd.client.connection import Connection  # noqa: PLC0415 - beneath the client
    from sttd.wire import requests  # noqa: PLC0415

    job = client.submit(wav).job
    with pytest.raises(Refused) as unknown:
        list(client.segments(job[:-4] + "0000"))
    assert unknown.value.code == Code.UNKNOWN_JOB
    assert job in unknown.value.hint
    line = Connection(sttd.endpoint)
    with pytest.raises(Refused, match="no cursor"):
        line.call(requests.Segments(job=job, cursor="../../etc/passwd"))
    line.close()


# -- sttctl -------------------------------------------------------------------------------------
def follow(sttd: Daemon, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sttd.ctl", "--socket", sttd.endpoint, "submit", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


def test_submit_follow_prints_segments_as_they_come_and_nothing_else_on_stdout(wav: Path) -> None:
    engine = {"name": "drill", "options": SLOW}
    with daemon(engine=engine) as sttd:
        sttd.start()
        process = follow(sttd, "--follow", str(wav))
        out = lines(process)
        assert next(out) == "[00:00:00.000 - 00:00:00.500] one\n"
        with Client(sttd.endpoint) as client:
            assert client.status().queue.running == 1
        assert [line.split("] ")[1].strip() for line in out] == WORDS[1:]
        assert process.wait(60) == 0
        assert process.stderr is not None
        told = process.stderr.read()
        assert "succeeded  talk.wav" in told
        process.stdout.close()  # type: ignore[union-attr]  # it is a pipe
        process.stderr.close()


def test_submit_follow_json_is_an_object_a_line_and_tells_of_a_new_beginning(
    wav: Path, tmp_path: Path
) -> None:
    options = {"first": "wrong", "second": "right words"}
    with daemon(engine=teller(tmp_path / "m", **options), retry={"backoff": "3s"}) as sttd:
        sttd.start()
        done = sttd.ctl("submit", "--follow", "--json", str(wav))
        assert done.returncode == 0, done.stderr
        told = [json.loads(line) for line in done.stdout.splitlines()]
        job = told[-1]["job"]
        assert [one["job"] for one in told] == [job] * 5
        assert [one["segment"]["text"] if "segment" in one else None for one in told] == [
            "wrong", None, "right", "words", None,
        ]  # fmt: skip
        assert told[1]["restarted"] is True
        assert (told[-1]["state"], told[-1]["duplicate"]) == ("succeeded", False)


def test_submit_follow_of_several_says_whose_and_what_failed(wav: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF no audio at all")
    engine = {"name": "drill", "options": {"text": "hello there", "segments": 1}}
    with daemon(engine=engine) as sttd:
        sttd.start()
        done = sttd.ctl("submit", "--follow", str(broken), str(wav))
        assert done.returncode == 1
        assert done.stdout.splitlines() == [
            "# broken.wav",
            "# talk.wav",
            "[00:00:00.000 - 00:00:04.000] hello there",
        ]
        assert "failed  broken.wav" in done.stderr


# -- progress -----------------------------------------------------------------------------------
def test_progress_has_speed_and_time_left_and_comes_at_most_once_a_second(
    client: Client, wav: Path
) -> None:
    with client.follow(["job.progress"]) as live:
        job = client.submit(wav, options={"options": {**SLOW, "sleep_s": 4}})
        told = [next(live), next(live)]
        shown = client.show(job.job)
    assert all(one["job"] == job.job for one in told)
    position, speed, left = (told[1][k] for k in ("position_s", "speed", "left_s"))
    assert isinstance(position, float) and isinstance(speed, float)  # noqa: PT018
    assert speed > 0
    assert left == pytest.approx((4.0 - position) / speed, abs=0.2)
    assert shown.speed is not None
    assert shown.left_s is not None
    eventually(lambda: client.show(job.job).state == "succeeded")
    assert client.show(job.job).speed is None
