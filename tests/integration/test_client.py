"""The Python client against a real control socket: what it hands over, and what it survives."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from sttd.client import Client, Curve, DaemonUnavailable, Refused, SttdError, WaitTimeout
from sttd.transcripts import EngineInfo, Segment, Source, Transcript
from sttd.wire import requests, views
from sttd.wire.codes import Code
from sttd.wire.requests import CHUNK
from tests.support.control import Daemon, running
from tests.support.waiting import eventually


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.endpoint) as client:
        yield client


@pytest.mark.parametrize("kind", [bytes, bytes.decode])
def test_keys_are_taken_as_the_text_that_a_file_has_or_as_bytes(
    kind: Callable[[bytes], bytes | str],
) -> None:
    (server, _), (public, secret) = zmq.curve_keypair(), zmq.curve_keypair()
    curve = Curve(kind(server), kind(public), kind(secret))
    with zmq.Context() as context, context.socket(zmq.DEALER) as line:
        curve.encrypt(line)
        assert line.getsockopt(zmq.MECHANISM) == zmq.CURVE


class InThread(threading.Thread):
    """A call that is under way while the test does something else."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call
        self._found: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._found = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error

    def result(self) -> Any:
        self.join(30)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._found


def wav(folder: Path, size: int = 3 * CHUNK + 7, name: str = "meeting.wav") -> Path:
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path


# -- submissions --------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 7])
def test_a_path_is_sent_whole(daemon: Daemon, client: Client, tmp_path: Path, size: int) -> None:
    path = wav(tmp_path, size)
    job = client.submit(path, languages=["en-US"], priority=7, options={"profanity": "raw"})
    assert daemon.recordings[job.job] == path.read_bytes()
    assert daemon.options[job.job] == {"profanity": "raw", "languages": ["en-US"]}
    assert (job.source.name, job.priority, job.duplicate) == ("meeting.wav", 7, False)


def test_a_path_that_the_daemon_may_read_itself_is_not_sent(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    path = wav(tmp_path)
    daemon.allow_path = lambda there: there == str(path)
    job = client.submit(os.path.relpath(path))
    assert daemon.recordings[job.job] == path.read_bytes()
    assert [requests.verb(request) for request in daemon.seen] == ["submit_path"]


def test_bytes_and_open_files_and_pipes_are_sent_from_where_they_stand(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    path = wav(tmp_path, 100)
    jobs = [client.submit(b"0123", name="a.wav"), client.submit(io.BytesIO(b"45"), name="b.wav")]
    with path.open("rb") as file:
        file.seek(60)
        jobs.append(client.submit(file))
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        jobs.append(client.submit(pipe, name="p.wav"))
    assert [daemon.recordings[job.job] for job in jobs] == [
        b"0123",
        b"45",
        path.read_bytes()[60:],
        b"through a pipe",
    ]
    assert [job.source.name for job in jobs] == ["a.wav", "b.wav", "meeting.wav", "p.wav"]


def test_a_recording_without_a_name_is_a_mistake(client: Client) -> None:
    with pytest.raises(ValueError, match="name"):
        client.submit(b"0123")


def test_a_name_that_is_no_text_is_made_printable(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    path = wav(tmp_path, 10, os.fsdecode(b"caf\xe9.wav"))
    job = client.submit(path)
    assert job.source.name == r"caf\xe9.wav"
    assert daemon.recordings[job.job] == path.read_bytes()


def test_the_same_key_gives_the_same_job(client: Client, tmp_path: Path) -> None:
    path = wav(tmp_path)
    first, second = client.submit(path, key="k"), client.submit(path, key="k")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.job == second.job
    assert client.submit(path).job != client.submit(path).job


def test_progress_is_told_while_sending(client: Client, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    client.submit(wav(tmp_path, 2 * CHUNK + 1), progress=lambda *seen: heard.append(seen))
    size = 2 * CHUNK + 1
    assert heard == [(CHUNK, size), (2 * CHUNK, size), (size, size)]


def test_an_upload_that_a_restart_has_lost_is_sent_again_and_makes_one_job(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    path = wav(tmp_path)
    restarts = iter([True])
    job = client.submit(
        path, progress=lambda *_: daemon.restart() if next(restarts, False) else None
    )
    assert daemon.recordings == {job.job: path.read_bytes()}
    assert not job.duplicate


def test_a_commit_whose_answer_a_restart_has_swallowed_makes_one_job_and_no_duplicate(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    daemon.mute.set()
    path = wav(tmp_path, 10)
    sending = InThread(lambda: client.submit(path, key="k"))
    eventually(lambda: daemon.jobs)
    daemon.stop()
    daemon.mute.clear()
    daemon.start()
    job = sending.result()
    assert list(daemon.jobs) == [job.job]
    assert not job.duplicate


def test_a_file_that_shrinks_while_it_is_sent_makes_no_job(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    path = wav(tmp_path)
    with pytest.raises(SttdError, match="shorter"):
        client.submit(path, progress=lambda *_: os.truncate(path, 10))
    assert daemon.jobs == {}


def test_too_many_uploads_at_once_are_waited_for(daemon: Daemon, tmp_path: Path) -> None:
    daemon.do(lambda: setattr(daemon.uploads, "_max_open", 1))
    with Client(daemon.endpoint) as other, Client(daemon.endpoint) as client:
        begun = threading.Event()
        go_on = threading.Event()

        def hold(*_: int) -> None:
            begun.set()
            assert go_on.wait(30)

        first = InThread(lambda: other.submit(wav(tmp_path, 1), progress=hold))
        assert begun.wait(30)
        second = InThread(lambda: client.submit(b"x", name="b.wav"))
        eventually(lambda: len(daemon.uploads._uploads) == 1)
        go_on.set()
        assert first.result().job != second.result().job


# -- outputs ------------------------------------------------------------------------------------
def test_outputs_are_copied_whole_with_their_folders(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    text = os.urandom(2 * CHUNK + 5)
    job = daemon.add("a/meeting.wav")
    daemon.finish(job, txt=text, srt=b"", json=b"{}")
    out = tmp_path / "out"
    copies = client.download(client.show(job), out)
    assert [str(path.relative_to(out)) for path in copies] == [
        "a/meeting.txt",
        "a/meeting.srt",
        "a/meeting.json",
    ]
    assert [path.read_bytes() for path in copies] == [text, b"", b"{}"]
    assert sorted(os.listdir(out / "a")) == ["meeting.json", "meeting.srt", "meeting.txt"]
    assert client.fetch(job, "a/meeting.txt") == text


@pytest.mark.parametrize("output", ["../escape.txt", "/etc/passwd", "a/../../b.txt", ""])
def test_an_output_that_would_lead_out_of_the_folder_is_not_copied(
    daemon: Daemon, client: Client, tmp_path: Path, output: str
) -> None:
    job = daemon.add()
    daemon.change(job, state="succeeded", outputs=(output,))
    with pytest.raises(SttdError, match="not copied"):
        client.download(client.show(job), tmp_path / "out")


def test_an_output_that_is_gone_is_refused_by_its_name(daemon: Daemon, client: Client) -> None:
    job = daemon.add()
    daemon.finish(job, txt=b"x")
    (daemon.outbox / "meeting.txt").unlink()
    with pytest.raises(Refused, match=r"meeting\.txt") as refused:
        client.fetch(job, "meeting.txt")
    assert refused.value.code == Code.UNKNOWN_OUTPUT


def test_a_link_in_the_outbox_is_not_followed(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for you")
    job = daemon.add()
    daemon.finish(job, txt=b"x")
    (daemon.outbox / "meeting.txt").unlink()
    (daemon.outbox / "meeting.txt").symlink_to(secret)
    with pytest.raises(Refused):
        client.fetch(job, "meeting.txt")


# -- jobs ---------------------------------------------------------------------------------------
def test_jobs_come_newest_first_over_any_number_of_pages(daemon: Daemon, client: Client) -> None:
    known = [daemon.add() for _ in range(requests.MAX_LISTED + 5)]
    assert [job.job for job in client.jobs(limit=5000)] == known[::-1]
    assert [job.job for job in client.jobs(limit=requests.MAX_LISTED + 1)] == known[:3:-1]
    daemon.fail(known[3])
    assert [job.job for job in client.jobs(state="failed")] == [known[3]]


def test_waiting_ends_when_all_are_finished_in_the_order_asked_for(
    daemon: Daemon, client: Client
) -> None:
    first, second = daemon.add("a.wav"), daemon.add("b.wav")
    seen: list[tuple[str, ...]] = []
    waiting = InThread(
        lambda: client.wait(
            [second, first],
            watch=lambda jobs: seen.append(tuple(job.state for job in jobs)),
            every=0.05,
        )
    )
    eventually(lambda: ("queued", "queued") in seen)
    daemon.finish(first)
    eventually(lambda: ("queued", "succeeded") in seen)
    daemon.fail(second)
    found = waiting.result()
    assert [(job.job, job.state) for job in found] == [(second, "failed"), (first, "succeeded")]


def test_more_jobs_than_one_request_takes_can_be_waited_for(daemon: Daemon, client: Client) -> None:
    jobs = [daemon.add() for _ in range(requests.MAX_LISTED + 1)]
    for job in jobs:
        daemon.fail(job)
    assert [job.job for job in client.wait(jobs)] == jobs


def test_waiting_too_long_tells_how_far_they_are(daemon: Daemon, client: Client) -> None:
    done, waiting = daemon.add(), daemon.add()
    daemon.finish(done)
    with pytest.raises(WaitTimeout, match="1 of 2") as over:
        client.wait([done, waiting], timeout=0.05)
    assert [job.state for job in over.value.jobs] == ["succeeded", "queued"]


def test_waiting_survives_a_restart_of_the_daemon(daemon: Daemon, client: Client) -> None:
    job = daemon.add()
    waiting = InThread(lambda: client.wait(job))
    eventually(lambda: daemon.seen)
    daemon.restart()
    eventually(lambda: len(daemon.seen) >= 2)  # a question whether it lives may come between
    daemon.finish(job)
    assert waiting.result()[0].state == "succeeded"


def test_waiting_for_a_daemon_that_died_ends(daemon: Daemon) -> None:
    job = daemon.add()
    with Client(daemon.endpoint, restart_s=2.5) as client:
        assert client.status()
        waiting = InThread(lambda: client.wait(job))
        eventually(lambda: len(daemon.seen) > 1)
        daemon.stop()
        with pytest.raises(DaemonUnavailable, match=r"for 2\.5 s"):
            waiting.result()


def test_an_unknown_job_is_refused_with_the_near_ones(daemon: Daemon, client: Client) -> None:
    job = daemon.add()
    with pytest.raises(Refused) as refused:
        client.wait(job[:-1])
    assert refused.value.code == Code.UNKNOWN_JOB
    assert job in refused.value.hint


def test_a_job_is_cancelled_and_retried(daemon: Daemon, client: Client) -> None:
    first, second = daemon.add(), daemon.add()
    assert client.cancel(first).state == "cancelled"
    daemon.fail(second)
    assert client.retry(second).state == "queued"
    daemon.fail(second)
    assert client.retry_all_failed() == 1


# -- what a job says ----------------------------------------------------------------------------
def segment(text: str) -> Segment:
    return Segment(start_s=0.0, end_s=1.0, text=text)


def manifest(job: str, *segments: Segment) -> bytes:
    return msgspec.json.encode(
        Transcript(
            job_id=job,
            source=Source(name="meeting.wav", sha256="", bytes=1, duration_s=1.0),
            engine=EngineInfo(name="drill", version="1"),
            languages=(),
            created="",
            text="",
            attempts=1,
            segments=segments,
        )
    )


def test_of_a_transcript_only_what_was_not_heard_is_given(daemon: Daemon, client: Client) -> None:
    job = daemon.add(state="running")
    daemon.said[job] = [segment("a"), segment("b"), segment("a")]
    stream = client.segments(job)
    heard = [next(stream).text for _ in range(3)]
    texts = ("b", "a", "c", "a", "b")  # in another order, and more of them
    daemon.finish(job, txt=b"", json=manifest(job, *map(segment, texts)))
    assert [*heard, *(one.text for one in stream)] == ["a", "b", "a", "c", "b"]


def test_a_transcript_that_contradicts_what_was_heard_makes_it_void(
    daemon: Daemon, client: Client
) -> None:
    job = daemon.add(state="running")
    daemon.said[job] = [segment("wrong")]
    heard: list[str] = []
    stream = client.segments(job, on_restart=heard.clear)
    heard += [next(stream).text]
    daemon.finish(job, json=manifest(job, segment("right")))
    heard += [one.text for one in stream]
    assert heard == ["right"]


def test_a_transcript_that_is_gone_or_is_none_is_said_so(daemon: Daemon, client: Client) -> None:
    job = daemon.add()
    daemon.finish(job, json=b"no JSON")
    with pytest.raises(SttdError, match=r"meeting\.json is no transcript"):
        list(client.segments(job))
    (daemon.outbox / "meeting.json").unlink()
    with pytest.raises(Refused, match=r"meeting\.json"):
        list(client.segments(job))
    daemon.change(job, outputs=())
    with pytest.raises(SttdError, match="no outputs"):
        list(client.segments(job))


def test_a_stream_goes_on_through_a_restart(daemon: Daemon, client: Client) -> None:
    job = daemon.add(state="running")
    daemon.said[job] = [segment("a")]
    stream = client.segments(job)
    assert next(stream).text == "a"
    rest = InThread(lambda: [one.text for one in stream])
    eventually(lambda: len(daemon.seen) > 1)
    daemon.restart()
    daemon.finish(job, json=manifest(job, segment("a"), segment("b")))
    assert rest.result() == ["b"]


# -- the line -----------------------------------------------------------------------------------
def test_a_daemon_that_takes_its_time_is_not_taken_for_dead(daemon: Daemon) -> None:
    with Client(daemon.endpoint, patience_s=1.5) as client:
        daemon.hold.set()
        asking = InThread(client.status)
        versions = eventually(lambda: daemon.seen.count(requests.Version()) >= 5)
        assert versions
        daemon.hold.clear()
        assert asking.result().daemon.state == "running"


def test_whoever_says_how_patient_he_is_waits_so_long_for_the_first_answer_too(
    daemon: Daemon,
) -> None:
    hangs, wake = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        wake.wait(30)

    hanging = InThread(lambda: daemon.do(hang))
    assert hangs.wait(30)
    with Client(daemon.endpoint) as client, pytest.raises(DaemonUnavailable, match=r"for 1\.3 s"):
        client.status()
    with Client(daemon.endpoint, patience_s=20) as client:
        asking = InThread(client.status)
        threading.Timer(1.5, wake.set).start()
        assert asking.result().daemon.state == "running"
    hanging.result()


def test_a_daemon_that_hangs_is_given_up_and_found_again(daemon: Daemon) -> None:
    hangs, wake = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        wake.wait(30)

    with Client(daemon.endpoint, patience_s=0.3) as client:
        hanging = InThread(lambda: daemon.do(hang))
        assert hangs.wait(30)
        with pytest.raises(DaemonUnavailable, match="no answer"):
            client.status()
        wake.set()
        hanging.result()
    with Client(daemon.endpoint) as client:
        assert client.status().daemon.state == "running"


def test_no_daemon_at_all_is_said_at_once_with_how_to_start_it(tmp_path: Path) -> None:
    with (
        Client(f"ipc://{tmp_path}/control.sock") as client,
        pytest.raises(DaemonUnavailable, match="no daemon listens") as nobody,
    ):
        client.status()
    assert "systemctl start" in nobody.value.hint


def test_a_request_lost_in_a_restart_is_sent_again(daemon: Daemon, client: Client) -> None:
    assert client.status()
    daemon.hold.set()
    asking = InThread(client.workers)
    eventually(lambda: requests.Workers() in daemon.seen)
    daemon.stop()
    daemon.hold.clear()
    daemon.start()
    assert [worker.id for worker in asking.result()] == ["w-17"]


def test_a_nonsensical_endpoint_is_said_so() -> None:
    with Client("ipx://nowhere") as client, pytest.raises(DaemonUnavailable, match="no endpoint"):
        client.status()


# -- the daemon ---------------------------------------------------------------------------------
def test_drained_is_waited_for_until_nothing_runs(daemon: Daemon, client: Client) -> None:
    job = daemon.add(state="running")
    assert client.drain() == views.DrainView(state="draining", running=1)
    with pytest.raises(WaitTimeout) as over:
        client.wait_drained(timeout=0.05)
    assert over.value.drain == views.DrainView(state="draining", running=1)
    waiting = InThread(client.wait_drained)
    daemon.finish(job)
    assert waiting.result() == views.DrainView(state="drained", running=0)
    assert client.resume().state == "running"


def test_events_are_followed_as_they_happen(daemon: Daemon, client: Client) -> None:
    past = daemon.publish("job.accepted", job="1")
    assert client.events(events=["job"]) == (past,)
    live = client.follow(["job"])
    daemon.publish("worker.ready", worker="w-1")
    now = daemon.publish("job.failed", job="1")
    assert next(live) == now
    live.close()
