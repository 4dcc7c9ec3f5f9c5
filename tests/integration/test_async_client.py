"""The client for asyncio against a real control socket, and that it is the other one's twin."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sttd.client import AsyncClient, Client, DaemonUnavailable, Refused, SttdError, WaitTimeout
from sttd.wire import requests, views
from sttd.wire.codes import Code
from sttd.wire.requests import CHUNK
from tests.support.control import Daemon, running
from tests.support.daemon import ROOT
from tests.support.ledger import asynchronous
from tests.support.waiting import eventually_async


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as daemon:
        yield daemon


def talking(daemon: Daemon, talk: Callable[[AsyncClient], Awaitable[None]], **how: Any) -> None:
    async def live() -> None:
        async with AsyncClient(daemon.endpoint, **how) as client:
            await talk(client)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(live())


# -- twins --------------------------------------------------------------------------------------
def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(kind).items()
        if callable(member) and not name.startswith("_")
    }


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    plain, other = public(Client), public(AsyncClient)
    assert list(plain) == list(other)
    for name, signature in plain.items():
        assert list(signature.parameters.values()) == list(other[name].parameters.values()), name
        if name not in ("segments", "follow"):
            assert signature.return_annotation == other[name].return_annotation, name
            assert inspect.iscoroutinefunction(getattr(AsyncClient, name)), name


def test_the_plain_client_does_not_import_asyncio() -> None:
    script = (
        "import sys\n"
        "from sttd.client import Client, Segment\n"
        "heavy = {'asyncio', 'zmq.asyncio', 'tempfile', 'sttd.client.flows'}\n"
        "assert not heavy & set(sys.modules)\n"
        "from sttd.client import AsyncClient\n"
        "assert 'zmq.asyncio' in sys.modules\n"
        "import sttd.client\n"
        "try: sttd.client.NoClient\n"
        "except AttributeError as error: assert 'NoClient' in str(error)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr


# -- what it does -------------------------------------------------------------------------------
def test_paths_bytes_files_and_pipes_are_handed_over_whole(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "meeting.wav"
    path.write_bytes(os.urandom(2 * CHUNK + 7))
    heard: list[tuple[int, int]] = []

    async def talk(client: AsyncClient) -> None:
        jobs = [
            await client.submit(path, languages=["en-US"], progress=lambda *so: heard.append(so)),
            await client.submit(b"0123", name="a.wav"),
            await client.submit(io.BytesIO(b"45"), name="b.wav"),
        ]
        reading, writing = os.pipe()
        os.write(writing, b"through a pipe")
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            jobs.append(await client.submit(pipe, name="p.wav"))
        contents = [path.read_bytes(), b"0123", b"45", b"through a pipe"]
        assert [daemon.recordings[job.job] for job in jobs] == contents
        assert heard[-1] == (2 * CHUNK + 7,) * 2
        assert daemon.options[jobs[0].job] == {"languages": ["en-US"]}
        with pytest.raises(ValueError, match="name"):
            await client.submit(b"0123")
        with pytest.raises(FileNotFoundError):
            await client.submit(tmp_path / "nothing.wav")

    talking(daemon, talk)


def test_outputs_are_copied_and_a_broken_copy_leaves_nothing(
    daemon: Daemon, tmp_path: Path
) -> None:
    text = os.urandom(2 * CHUNK + 5)
    job = daemon.add("a/meeting.wav")
    daemon.finish(job, txt=text, json=b"{}")

    async def talk(client: AsyncClient) -> None:
        copies = await client.download(await client.show(job), tmp_path / "out")
        assert [path.read_bytes() for path in copies] == [text, b"{}"]
        assert await client.fetch(job, "a/meeting.txt") == text
        (daemon.outbox / "a" / "meeting.json").unlink()
        view = await client.show(job)
        with pytest.raises(Refused) as gone:
            await client.download(view, tmp_path / "other")
        assert gone.value.code == Code.UNKNOWN_OUTPUT
        assert os.listdir(tmp_path / "other" / "a") == ["meeting.txt"]

    talking(daemon, talk)


def test_many_requests_are_under_way_at_once(daemon: Daemon) -> None:
    jobs = [daemon.add() for _ in range(20)]

    async def talk(client: AsyncClient) -> None:
        waiting = [asyncio.create_task(client.wait(job)) for job in jobs]
        statuses = await asyncio.gather(*(client.status() for _ in range(20)))
        assert {status.daemon.state for status in statuses} == {"running"}
        assert [job.job for job in await client.jobs(limit=5)] == jobs[:-6:-1]
        for job in reversed(jobs):
            daemon.finish(job)
        assert [(await one)[0].job for one in waiting] == jobs

    talking(daemon, talk)


def test_waiting_too_long_tells_how_far_they_are(daemon: Daemon) -> None:
    done, waiting = daemon.add(), daemon.add()
    daemon.finish(done)

    async def talk(client: AsyncClient) -> None:
        with pytest.raises(WaitTimeout, match="1 of 2") as over:
            await client.wait([done, waiting], timeout=0.05)
        assert [job.state for job in over.value.jobs] == ["succeeded", "queued"]
        daemon.change(waiting, state="running")
        await client.drain()
        with pytest.raises(WaitTimeout) as drain:
            await client.wait_drained(timeout=0.05)
        assert drain.value.drain == views.DrainView(state="draining", running=1)

    talking(daemon, talk)


def test_what_waits_and_what_is_sent_survives_a_restart(daemon: Daemon) -> None:
    job = daemon.add()
    restarts = iter([True])

    async def talk(client: AsyncClient) -> None:
        waiting = asyncio.create_task(client.wait(job))
        await eventually_async(lambda: any(isinstance(r, requests.Wait) for r in daemon.seen))
        sent = await client.submit(
            b"x" * (3 * CHUNK),
            name="a.wav",
            progress=lambda *_: daemon.restart() if next(restarts, False) else None,
        )
        assert daemon.recordings == {sent.job: b"x" * (3 * CHUNK)}
        assert not sent.duplicate
        waits = [r for r in daemon.seen if isinstance(r, requests.Wait)]
        assert len(waits) >= 2
        daemon.finish(job)
        assert (await waiting)[0].state == "succeeded"

    talking(daemon, talk)


def test_a_daemon_that_hangs_or_died_is_given_up_and_found_again(daemon: Daemon) -> None:
    hangs, wake = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        wake.wait(30)

    async def talk(client: AsyncClient) -> None:
        hanging = asyncio.create_task(asyncio.to_thread(daemon.do, hang))
        assert await asyncio.to_thread(hangs.wait, 30)
        both = await asyncio.gather(client.status(), client.workers(), return_exceptions=True)
        assert [type(error) for error in both] == [DaemonUnavailable] * 2
        wake.set()
        await hanging
        assert (await client.status()).daemon.state == "running"
        await asyncio.to_thread(daemon.stop)
        with pytest.raises(DaemonUnavailable, match="for 2 s"):
            await client.status()
        with pytest.raises(DaemonUnavailable, match="no daemon listens"):
            await client.status()
        await asyncio.to_thread(daemon.start)
        assert await client.status()

    talking(daemon, talk, patience_s=1.0, restart_s=2.0)


def test_a_cancelled_call_leaves_the_line_as_it_was(daemon: Daemon) -> None:
    job = daemon.add()

    async def talk(client: AsyncClient) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.wait(job), 0.2)
        assert client._line._open == {}
        daemon.finish(job)
        assert (await client.wait(job))[0].state == "succeeded"

    talking(daemon, talk)


def test_events_are_followed_as_they_happen(daemon: Daemon) -> None:
    async def talk(client: AsyncClient) -> None:
        async with client.follow(["job"]) as live:
            daemon.publish("worker.ready", worker="w-1")
            now = daemon.publish("job.failed", job="1")
            assert await anext(live) == now
        assert await client.events(events=["job"]) == (now,)

    talking(daemon, talk)


def test_an_error_in_the_middle_of_a_file_is_raised_as_it_is(daemon: Daemon) -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    async def talk(client: AsyncClient) -> None:
        with pytest.raises(OSError, match="Input/output"):
            await client.submit(Broken(b"1234"), name="a.wav")
        job = daemon.add()
        daemon.change(job, state="succeeded", outputs=("../escape.txt",))
        view = await client.show(job)
        with pytest.raises(SttdError, match="not copied"):
            await client.download(view, "/nowhere")

    talking(daemon, talk)


@asynchronous
async def test_nobody_there_and_nonsense_are_said_at_once() -> None:
    async with AsyncClient("ipc:///nowhere/c.sock") as client:
        with pytest.raises(DaemonUnavailable, match="no daemon listens") as nobody:
            await client.status()
        assert "systemctl start" in nobody.value.hint
    async with AsyncClient("ipx://nowhere") as client:
        with pytest.raises(DaemonUnavailable, match="no endpoint"):
            await client.status()
