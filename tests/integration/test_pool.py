"""The pool with real templates, workers and decoders."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from sttd import linux
from sttd.supervisor import companions
from sttd.supervisor.child import Child, Strays
from sttd.supervisor.pool import Pool
from sttd.transcripts import Transcript
from sttd.wire import messages as say
from tests.support.engines import WRONG
from tests.support.recorder import Recorder
from tests.support.recordings import BY_SUFFIX, record
from tests.support.waiting import eventually, eventually_async
from tests.support.wav import tone

LIMITS = say.DecodeLimits(max_duration_s=100, max_channels=8)


@asynccontextmanager
async def pool_of(engine: str) -> AsyncIterator[tuple[Pool, Recorder]]:
    recorder = Recorder()
    order = say.Load(
        role="engine", supervisor=os.getpid(), engine=f"tests.support.engines:{engine}"
    )
    pool = Pool(lambda: (order, os.environ), recorder)
    try:
        yield pool, recorder
    finally:
        for name in list(pool.pids()):
            pool.kill(name)
        for item in [h for h in recorder.heard if h[0] == "forked"]:
            await recorder.until("exited", item[1])
        await pool.close()


async def a_worker(pool: Pool, told: Recorder, name: str = "w-1") -> None:
    """The first: with the templates, and ready."""
    pool.start_templates(1, renew=False)
    await told.until("template_ready", 1)
    pool.fork(name, 1)
    await told.until("said", name, kind=say.Ready)


@pytest.fixture(autouse=True)
def subreaper() -> Iterator[None]:
    """For these tests alone: elsewhere an orphan that nobody here reaps would seem to live."""
    linux.become_subreaper()
    yield
    assert ctypes.CDLL(None).prctl(linux.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def run_async(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(body(), 60)

    asyncio.run(bounded())


def a_job(tmp_path: Path, extra: str = "{}") -> say.Run:
    spool = tmp_path / "spool"
    tone(spool / "audio", 1.5)
    return say.Run(
        generation=1,
        job="j1",
        attempt=1,
        token="t",
        name="talk.wav",
        spool=str(spool),
        staging=str(tmp_path / "staging"),
        stem="talk",
        formats=("json", "txt"),
        options=f'{{"options":{extra}}}',
        limits=LIMITS,
        resume=True,
    )


def test_a_worker_transcribes_and_writes_every_output(tmp_path: Path) -> None:
    async def body() -> None:
        async with pool_of("Echo") as (pool, told):
            await a_worker(pool, told)
            pool.send("w-1", a_job(tmp_path))
            done = (await told.until("said", "w-1", kind=say.Done))[-1]
            assert done.duration_s == pytest.approx(1.5)
            assert [o.name for o in done.outputs] == ["talk.txt", "talk.json"]
            text = (tmp_path / "staging" / "talk.json").read_bytes()
            transcript = msgspec.json.decode(text, type=Transcript)
            assert transcript.text == "48000 bytes"

    run_async(body)


def test_what_an_engine_says_that_is_no_text_is_mended_and_kills_no_worker(tmp_path: Path) -> None:
    async def body() -> None:
        async with pool_of("Careless") as (pool, told):
            await a_worker(pool, told)
            pool.send("w-1", a_job(tmp_path, '{"raise": true}'))
            failed = (await told.until("said", "w-1", kind=say.Failed))[-1]
            assert (failed.kind, failed.retry_after_s, failed.segments) == ("throttled", 12.0, 1)
            assert "caf\\udce9.wav" in failed.message
            pool.send("w-1", msgspec.structs.replace(a_job(tmp_path), resume=False))
            await told.until("said", "w-1", kind=say.Done)
            text = (tmp_path / "staging" / "talk.json").read_bytes()
            first = msgspec.json.decode(text, type=Transcript).segments[0]
            assert (first.text, first.speaker) == ("half \ufffd", "\ufffd")

    run_async(body)


def test_what_is_no_segment_is_a_failed_attempt_that_committed_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with pool_of("Mistaken") as (pool, told):
            await a_worker(pool, told)
            for number, kind in enumerate(WRONG, 1):
                job = a_job(tmp_path, f'{{"wrong": "{kind}"}}')
                pool.send("w-1", msgspec.structs.replace(job, attempt=number))
                failed = await told.until("said", "w-1", kind=say.Failed, attempt=number)
                assert (failed[-1].kind, failed[-1].segments) == ("failed", 0), kind
                assert "docs/engines.md says what an engine yields" in failed[-1].message
            assert '"said"' not in (tmp_path / "spool" / "segments.jsonl").read_text()
            pool.send("w-1", a_job(tmp_path, '{"wrong": "text", "good": true}'))
            after_one = await told.until("said", "w-1", kind=say.Failed, segments=1)
            assert "a Segment with a wrong `text`" in after_one[-1].message

    run_async(body)


def test_an_end_too_far_away_leaves_nothing_unheard_when_its_worker_dies(tmp_path: Path) -> None:
    async def body() -> None:
        async with pool_of("Overrunning") as (pool, told):
            await a_worker(pool, told)
            job = a_job(tmp_path)
            tone(Path(job.spool) / "audio", 5.0)
            pool.send("w-1", job)
            await told.until("said", "w-1", kind=say.Failed, segments=1)
            pool.send("w-1", msgspec.structs.replace(job, attempt=2))
            await told.until("said", "w-1", kind=say.Done)
            text = (tmp_path / "staging" / "talk.json").read_bytes()
            transcript = msgspec.json.decode(text, type=Transcript)
            (resumed_at_s,) = transcript.resumed_at_s
            assert 0 < resumed_at_s < 5
            rest = f"{160_000 - round(resumed_at_s * 32_000)} bytes"
            assert [s.text for s in transcript.segments] == ["begun", rest]

    run_async(body)


@pytest.mark.parametrize(("suffix", "options"), [("webm", {"live": "1"}), ("aac", {}), ("wav", {})])
def test_the_times_of_an_engine_that_reads_the_recording_itself_are_kept(
    tmp_path: Path, suffix: str, options: dict[str, str]
) -> None:
    async def body() -> None:
        async with pool_of("Deaf") as (pool, told):
            await a_worker(pool, told)
            job = a_job(tmp_path)
            record(Path(job.spool) / "audio", 3.0, BY_SUFFIX[suffix], options=options)
            pool.send("w-1", job)
            done = (await told.until("said", "w-1", kind=say.Done))[-1]
            assert done.duration_s == pytest.approx(3.0, abs=0.15)
            text = (tmp_path / "staging" / "talk.json").read_bytes()
            transcript = msgspec.json.decode(text, type=Transcript)
            times = [(s.start_s, s.end_s) for s in transcript.segments]
            assert (times, done.clamped) == ([(0.5, 1.0), (2.0, 2.5)], 0)
            assert transcript.segments[1].words[0].start_s == 2.0

    run_async(body)


def test_a_worker_is_the_supervisors_own_child_and_outlives_its_template() -> None:
    async def body() -> None:
        async with pool_of("Echo") as (pool, told):
            pool.start_templates(1, renew=False)
            ready = (await told.until("template_ready", 1))[-1]
            pool.fork("w-1", 1)
            pid = (await told.until("forked", "w-1"))[-1]
            await told.until("said", "w-1", kind=say.Ready)
            assert parent_of(pid) == os.getpid()
            os.kill(ready.pid, signal.SIGKILL)
            await told.until("template_exited", 1)
            assert pool.pids() == {"w-1": pid}
            pool.start_templates(2, renew=False)
            await told.until("template_ready", 2)
            pool.fork("w-2", 2)
            await told.until("said", "w-2", kind=say.Ready)
            assert set(pool.pids()) == {"w-1", "w-2"}

    run_async(body)


def test_a_process_that_the_kernel_refuses_leaves_no_second_template_behind() -> None:
    async def body() -> None:
        async with pool_of("Childless") as (pool, told):
            pool.start_templates(1, renew=False)
            template = (await told.until("template_ready", 1))[-1].pid
            pool.fork("w-1", 1)
            assert "the kernel refused a process" in (await told.until("exited", "w-1"))[-1]
            assert not children_of(template)

    run_async(body)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "kill"), (signal.SIGSEGV, "segv")])
def test_the_signal_that_ended_a_worker_is_told(number: signal.Signals, name: str) -> None:
    async def body() -> None:
        async with pool_of("Echo") as (pool, told):
            pool.start_templates(1, renew=False)
            await told.until("template_ready", 1)
            pool.fork(name, 1)
            pid = (await told.until("forked", name))[-1]
            await told.until("said", name, kind=say.Ready)
            os.kill(pid, number)
            assert (await told.until("exited", name))[2:4] == (None, number.value)

    run_async(body)


def test_a_worker_told_to_leave_exits_with_zero_even_in_the_middle_of_a_job(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        async with pool_of("Echo") as (pool, told):
            pool.start_templates(1, renew=False)
            await told.until("template_ready", 1)
            for name in ("idle", "busy"):
                pool.fork(name, 1)
                await told.until("said", name, kind=say.Ready)
            pool.send("busy", a_job(tmp_path, '{"hang":true}'))
            await told.until("output", "talk.wav hangs", "busy")
            for name in ("idle", "busy"):
                pool.terminate(name)
                assert (await told.until("exited", name))[2:4] == (0, None)

    run_async(body)


def test_a_worker_whose_decoder_dies_leaves_and_says_so() -> None:
    async def body() -> None:
        async with pool_of("Echo") as (pool, told):
            pool.start_templates(1, renew=False)
            await told.until("template_ready", 1)
            before = set(Child.held)
            pool.fork("w-1", 1)
            worker = (await told.until("forked", "w-1"))[-1]
            await told.until("said", "w-1", kind=say.Ready)
            (decoder,) = await eventually_async(lambda: Child.held - before - {worker})
            os.kill(decoder, signal.SIGKILL)
            assert (await told.until("exited", "w-1"))[2] == 71

    run_async(body)


def test_an_engine_that_must_be_spawned_works_all_the_same(tmp_path: Path) -> None:
    async def body() -> None:
        async with pool_of("Spawned") as (pool, told):
            pool.start_templates(1, renew=False)
            assert (await told.until("template_ready", 1))[-1].start == "spawn"
            pool.fork("w-1", 1)
            await told.until("said", "w-1", kind=say.Ready)
            pool.send("w-1", a_job(tmp_path))
            done = (await told.until("said", "w-1", kind=say.Done))[-1]
            assert done.duration_s == pytest.approx(1.5)

    run_async(body)


def test_a_spawned_engine_need_not_know_its_version_before_it_is_built(tmp_path: Path) -> None:
    async def body() -> None:
        async with pool_of("Versioned") as (pool, told):
            pool.start_templates(1, renew=False)
            assert (await told.until("template_ready", 1))[-1].version == ""
            pool.fork("w-1", 1)
            await told.until("said", "w-1", kind=say.Ready)
            pool.send("w-1", a_job(tmp_path))
            await told.until("said", "w-1", kind=say.Done)
            text = (tmp_path / "staging" / "talk.json").read_bytes()
            assert msgspec.json.decode(text, type=Transcript).engine.version == "1.2"

    run_async(body)


def test_an_engine_that_loses_its_own_connection_does_not_pass_for_a_dead_supervisor() -> None:
    async def body() -> None:
        async with pool_of("Unconnected") as (pool, told):
            pool.start_templates(1, renew=False)
            await told.until("template_ready", 1)
            pool.fork("w-1", 1)
            assert (await told.until("exited", "w-1"))[2] == 70
            await told.until("output", "w-1: ConnectionResetError: the model server hung up")

    run_async(body)


def test_a_template_with_threads_refuses_to_fork_and_names_them() -> None:
    async def body() -> None:
        async with pool_of("Threaded") as (pool, told):
            pool.start_templates(1, renew=False)
            await told.until("template_ready", 1)
            pool.fork("w-1", 1)
            message = (await told.until("exited", "w-1"))[-1]
            assert "threads" in message
            assert "stray" in message
            assert "spawn" in message

    run_async(body)


def test_an_engine_that_cannot_be_loaded_is_told_in_one_line() -> None:
    async def body() -> None:
        async with pool_of("Broken") as (pool, told):
            pool.start_templates(1, renew=False)
            gone = await told.until("template_exited", 1)
            assert gone[2] == "RuntimeError: the model is missing"
            assert gone[3]

    run_async(body)


def test_a_dead_child_that_nobody_holds_is_reaped_when_it_was_found_twice() -> None:
    strays = Strays()
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead by now

    strays.sweep()
    assert Path(f"/proc/{pid}").exists()  # somebody may be about to hold it
    assert strays.sweep()
    assert not Path(f"/proc/{pid}").exists()


def test_no_child_is_left_when_the_pool_is_closed() -> None:
    async def body() -> None:
        async with pool_of("Echo") as (pool, told):
            pool.start_templates(1, renew=False)
            await told.until("template_ready", 1)
            for n in range(4):
                pool.fork(f"w-{n}", n)
                await told.until("said", f"w-{n}", kind=say.Ready)

    def templates() -> set[str]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return {c for c in children if "template" in Path(f"/proc/{c}/cmdline").read_text()}

    before, held = templates(), set(Child.held)
    run_async(body)
    # a decoder that was not yet held follows its worker by end of file
    eventually(lambda: templates() <= before)
    assert Child.held <= held


async def decoder_of(pool: Pool, told: Recorder, name: str) -> int:
    """Fork a worker that needs a new decoder; the decoder's pid, once it is held."""
    before = set(Child.held)
    pool.fork(name, 1)
    worker = (await told.until("forked", name))[-1]
    await told.until("said", name, kind=say.Ready)
    (decoder,) = await eventually_async(lambda: Child.held - before - {worker})
    return int(decoder)


def test_the_decoder_of_a_worker_that_left_in_peace_serves_the_next_one(tmp_path: Path) -> None:
    async def body() -> None:
        async with pool_of("Echo") as (pool, told):
            pool.start_templates(1, renew=False)
            await told.until("template_ready", 1)
            decoder = await decoder_of(pool, told, "w-1")
            pool.send("w-1", a_job(tmp_path))
            await told.until("said", "w-1", kind=say.Done)
            pool.terminate("w-1")
            await told.until("exited", "w-1")
            assert decoder in Child.held
            before = set(Child.held)
            pool.fork("w-2", 1)
            worker = (await told.until("forked", "w-2"))[-1]
            pool.send("w-2", a_job(tmp_path / "second"))
            done = (await told.until("said", "w-2", kind=say.Done))[-1]
            assert done.duration_s == pytest.approx(1.5)
            assert Child.held - before == {worker}

    run_async(body)


def test_a_decoder_serves_only_so_many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions, "MOST_WORKERS", 1)

    async def body() -> None:
        async with pool_of("Echo") as (pool, told):
            pool.start_templates(1, renew=False)
            await told.until("template_ready", 1)
            decoder = await decoder_of(pool, told, "w-1")
            pool.terminate("w-1")
            await told.until("exited", "w-1")
            await eventually_async(lambda: decoder not in Child.held)

    run_async(body)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_decoder_of_a_worker_that_left_its_job_goes_with_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    async def body() -> None:
        async with pool_of("Echo") as (pool, told):
            pool.start_templates(1, renew=False)
            await told.until("template_ready", 1)
            decoder = await decoder_of(pool, told, "w-1")
            pool.send("w-1", a_job(tmp_path, '{"hang":true}'))
            await told.until("output", "talk.wav hangs", "w-1")
            os.kill(pool.pids()["w-1"], number)
            await told.until("exited", "w-1")
            await eventually_async(lambda: decoder not in Child.held)

    run_async(body)
