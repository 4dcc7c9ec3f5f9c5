"""After a cut anywhere, the next life puts files and ledger in agreement and finishes everything.

The story below is a whole life: recovery, arrival, a submission, publication, failure, disposal.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from pathlib import Path

import msgspec
import pytest

from sttd.core.jobs import JobState
from sttd.supervisor.manifest import Manifest, read_manifest
from sttd.supervisor.spool import signature_of
from tests.support.cuts import live
from tests.support.files import World, accept_all, living
from tests.support.tally import sweep

GOOD = ("a.wav", "a.mp3", "b/a.wav", "caf\udce9.wav")
WITH_SIDECAR = "b/a.wav"
BAD_SIDECAR = "c.wav"
BAD_SOUND = "bad.wav"
LARGE = "large.wav"
SUBMITTED = "submitted"
FAILING = (BAD_SIDECAR, BAD_SOUND, LARGE)


def sound(name: str) -> bytes:
    """Each recording's bytes are its own, so that it is known wherever it turns up."""
    return name.encode("utf-8", "surrogateescape") * (500 if name == LARGE else 1)


def new_world(root: Path) -> World:
    return World(root, max_file_size=1000)


def drop_all(root: Path) -> None:
    world = new_world(root)
    world.syncer.close()
    world.drop(WITH_SIDECAR + ".json", b'{"priority":1}')
    world.drop(BAD_SIDECAR + ".json", b'{"prioritty":1}')
    for name in (*GOOD, *FAILING):
        world.drop(name, sound(name))


async def life(root: Path) -> None:
    """Everything that a daemon does in one life, as far as files and ledger go."""
    world = new_world(root)
    async with living(world):
        await world.recover()
        await accept_all(world)
        arrivals = world.arrivals()
        if await world.ledger.job_by_key("k") is None:
            upload = world.spool.new_upload()
            upload.write_bytes(sound(SUBMITTED))
            await arrivals.accept_upload(upload, name="submitted.wav", key="k")
        for job in await world.ledger.claim(100):
            if job.name == BAD_SOUND:
                await world.ledger.fail(
                    job.id, job.token, code="undecodable", message="no", attempt=None
                )
                await world.dispose(job.id)
            else:
                await world.finish(job)


async def check(root: Path) -> None:
    """The invariants, once everything has been finished; and that recovering changes nothing."""
    world = new_world(root)
    async with living(world):
        before = snapshot(world)
        await world.recover()
        await world.recover()
        assert snapshot(world) == before

        assert [
            name for name in world.files() if not name.startswith(("outbox/", "done/", "failed/"))
        ] == []
        assert os.listdir(world.outbox.staging_root) == []
        assert sorted(os.listdir(world.spool.root)) == [".upload"]
        kept = sorted(
            path.read_bytes() for path in files_in(root / "done") if path.suffix != ".json"
        )
        assert kept == sorted(map(sound, (*GOOD, SUBMITTED)))
        refused = originals_in(root / "failed")
        assert sorted(path.read_bytes() for path in refused) == sorted(map(sound, FAILING))
        for path in refused:
            report = msgspec.json.decode(path.with_name(path.name + ".error.json").read_bytes())
            row = await world.ledger.job(report["job_id"])
            assert row is not None
            assert row.state is JobState.FAILED
            assert row.error_message
            assert row.original == str(path.relative_to(root))
        await check_ledger(world)
        assert await world.ledger.integrity() == "ok"


async def check_ledger(world: World) -> None:
    manifests = visible_manifests(world.root)
    sums = [manifest.source.sha256 for manifest in manifests.values()]
    assert sorted(map(str, sums)) == sorted(
        hashlib.sha256(sound(name)).hexdigest() for name in (*GOOD, SUBMITTED)
    )
    for path, manifest in manifests.items():
        row = await world.ledger.job(manifest.job_id)
        assert row is not None
        assert row.state is JobState.SUCCEEDED
        assert row.disposed
        assert row.attempt >= manifest.attempts
        assert path == world.outbox.path / row.outputs[-1]
        assert all((world.outbox.path / output).exists() for output in row.outputs)
        assert row.original is None or (world.root / row.original).read_bytes()
    counts = await world.ledger.counts()
    assert (counts.queued, counts.deferred, counts.running) == (0, 0, 0)
    assert (counts.succeeded, counts.failed) == (len(GOOD) + 1, len(FAILING))
    assert await world.ledger.in_state(JobState.CLAIMING) == []


def visible_manifests(root: Path) -> dict[Path, Manifest]:
    """Every manifest in the outbox; each is whole, and so are its siblings."""
    found = {}
    for path in files_in(root / "outbox"):
        if path.suffix == ".json" and ".tmp" not in path.parts:
            manifest = read_manifest(path)
            assert manifest is not None, f"{path} is no whole manifest"
            assert path.with_suffix(".txt").read_bytes() == b"words\n"
            found[path] = manifest
    assert len({manifest.job_id for manifest in found.values()}) == len(found)
    return found


def files_in(root: Path) -> list[Path]:
    return [Path(folder) / name for folder, _, names in os.walk(root) for name in names]


def originals_in(root: Path) -> list[Path]:
    return [path for path in files_in(root) if path.suffix != ".json"]


def snapshot(world: World) -> dict[str, bytes]:
    return {name: (world.root / name).read_bytes() for name in world.files()}


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many changes to the disk a whole life makes."""
    root = tmp_path_factory.mktemp("whole")
    drop_all(root)
    points = live(lambda: life(root), None)
    assert points is not None
    asyncio.run(check(root))
    return points


def test_a_life_without_a_cut_finishes_everything(points: int) -> None:
    assert points > 200


def cut_and_finish(root: Path, *cuts: int) -> None:
    drop_all(root)
    for cut in cuts:
        live(lambda: life(root), cut)
        visible_manifests(root)
    asyncio.run(life(root))
    asyncio.run(check(root))


@pytest.mark.parametrize("share", range(24))
def test_a_kill_at_any_change_to_the_disk_loses_and_doubles_nothing(
    tmp_path: Path, points: int, share: int
) -> None:
    cut_and_finish(tmp_path, 1 + share * points // 24)


@pytest.mark.parametrize("seed", range(6))
def test_kills_during_the_recovery_lose_and_double_nothing(
    tmp_path: Path, points: int, seed: int
) -> None:
    chance = random.Random(seed)
    cut_and_finish(tmp_path, *(chance.randrange(1, points) for _ in range(4)))


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_a_kill_at_every_change_to_the_disk(tmp_path: Path, points: int) -> None:
    """Two minutes; without processes, so that every point can be met exactly."""
    with sweep("SIGKILL at every change to the disk, files and ledger alone", "lives") as tried:
        for cut in range(1, points + 1):
            with tried.one(f"cut {cut}"):
                cut_and_finish(tmp_path / str(cut), cut)


# -- one by one -------------------------------------------------------------------------------
def test_a_published_transcript_whose_row_was_not_committed_is_adopted(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            world.drop("a.wav")
            await accept_all(world)
            [job] = await world.ledger.claim(1)
            outputs = world.write_staging(job)
            world.outbox.publish(world.outbox.staging(job.id, job.attempt), job.out_name, outputs)
            recovered = await world.recover()
            assert [row.id for row in recovered.adopted] == [job.id]
            row = await world.ledger.job(job.id)
            assert row is not None
            assert (row.state, row.attempt, row.duration_s) == (JobState.SUCCEEDED, 1, 1.0)
            assert row.outputs == ("a.txt", "a.json")
            assert row.original == "done/a.wav"

    asyncio.run(story())


def test_what_ran_is_requeued_and_its_staging_removed(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            world.drop("a.wav")
            await accept_all(world)
            [job] = await world.ledger.claim(1)
            world.write_staging(job, formats=("txt",))
            recovered = await world.recover()
            assert recovered.requeued == 1
            row = await world.ledger.job(job.id)
            assert row is not None
            assert (row.state, row.interrupted) == (JobState.QUEUED, 1)
            assert list(world.outbox.staging_root.iterdir()) == []

    asyncio.run(story())


@pytest.mark.parametrize("described", [True, False])
def test_an_orphan_in_the_spool_is_queued_never_deleted(tmp_path: Path, *, described: bool) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            world.drop("a/caf\udce9.wav.json", b'{"priority":5}')
            world.drop("a/caf\udce9.wav", b"sound")
            [row] = await accept_all(world)
            if not described:
                (world.spool.folder(row.id) / "job.json").unlink()
        for path in (tmp_path / "ledger").iterdir():
            path.unlink()
        world = World(tmp_path)
        async with living(world):
            recovered = await world.recover()
            [orphan] = recovered.orphans
            assert orphan.id == row.id
            assert orphan.state is JobState.QUEUED
            if described:
                assert orphan.name == "a/caf\udce9.wav"
                assert (orphan.out_name, orphan.priority) == ("a/caf\udce9", 5)
            assert world.spool.audio(row.id).read_bytes() == b"sound"
            assert (await world.recover()).orphans == []

    asyncio.run(story())


def test_a_claim_whose_file_changed_is_withdrawn_and_found_again(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            path = world.drop("a.wav")
            piece = world.inbox.scan()
            jobs, _ = world.inbox.prepare(piece.found)  # type: ignore[arg-type]  # one candidate
            await world.ledger.begin(jobs)
            with path.open("ab") as file:
                file.write(b"more")
            recovered = await world.recover()
            assert [one.row.name for one in recovered.claims.withdrawn] == ["a.wav"]
            [row] = await accept_all(world)
            assert row.out_name == "a"
            assert world.spool.audio(row.id).read_bytes().endswith(b"more")

    asyncio.run(story())


def test_a_claim_under_another_device_number_is_still_known(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            world.drop("a.wav")
            piece = world.inbox.scan()
            [job], _ = world.inbox.prepare(piece.found)  # type: ignore[arg-type]  # one candidate
            other = msgspec.structs.replace(job.signature, dev=job.signature.dev + 7)
            await world.ledger.begin([msgspec.structs.replace(job, signature=other)])
            recovered = await world.recover()
            assert [row.name for row in recovered.claims.accepted] == ["a.wav"]

    asyncio.run(story())


def test_an_inbox_that_is_away_at_the_start_keeps_its_claims_open(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            world.drop("a.wav")
            piece = world.inbox.scan()
            jobs, _ = world.inbox.prepare(piece.found)  # type: ignore[arg-type]  # one candidate
            await world.ledger.begin(jobs)
            world.inbox_path.rename(tmp_path / "away")
            recovered = await world.recover()
            assert "inbox" in recovered.troubles[0]
            assert len(await world.ledger.in_state(JobState.CLAIMING)) == 1
            arrivals = world.arrivals()
            async with asyncio.TaskGroup() as group:
                group.create_task(arrivals.run())
                await world.heard.until(lambda: bool(world.heard.troubles))
                (tmp_path / "away").rename(world.inbox_path)
                await world.heard.counted(1)
                arrivals.stop()

    asyncio.run(story())


def test_half_received_uploads_are_removed(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            world.spool.new_upload().write_bytes(b"half")
            assert (await world.recover()).removed == 1
            assert list(world.spool.uploads.iterdir()) == []

    asyncio.run(story())


def test_a_retry_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, max_file_size=1)
        async with living(world):
            world.drop("a.wav", b"sound")
            await accept_all(world)
            [failed] = world.heard.failures
            assert world.outbox.reclaim("failed/a.wav", failed.id, failed.signature)
            recovered = await world.recover()
            assert recovered.requeued == 1
            row = await world.ledger.job(failed.id)
            assert row is not None
            assert row.state is JobState.QUEUED
            assert world.spool.read_job(failed.id) is not None
            assert world.spool.audio(failed.id).read_bytes() == b"sound"

    asyncio.run(story())


def test_an_empty_folder_of_a_finished_job_is_cleared(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            world.drop("a.wav")
            await accept_all(world)
            [job] = await world.ledger.claim(1)
            await world.finish(job)
            folder = Path(world.spool.make(job.id))
            (folder / "segments.jsonl").write_bytes(b"{}\n")
            assert (await world.recover()).removed == 1
            assert list(world.spool.jobs()) == []

    asyncio.run(story())


def test_the_spool_says_what_it_holds(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        async with living(world):
            world.drop("a.wav")
            [row] = await accept_all(world)
            file = world.spool.read_job(row.id)
            assert file is not None
            assert file.signature.ino == signature_of(world.spool.audio(row.id).stat()).ino
            assert list(world.spool.jobs()) == [row.id]

    asyncio.run(story())


@pytest.mark.parametrize("way", ["arrived", "claimed"])
def test_an_original_that_cannot_be_put_away_at_the_start_is_left_for_later(
    tmp_path: Path, way: str
) -> None:
    async def story() -> None:
        world = World(tmp_path, max_file_size=1)
        failed = tmp_path / "failed"
        async with living(world):
            world.drop("a.wav", b"sound")
            failed.rmdir()
            failed.write_bytes(b"a file in its place")
            if way == "claimed":
                jobs, _ = world.inbox.prepare(world.inbox.scan().found)  # type: ignore[arg-type]  # one candidate
                await world.ledger.begin(jobs)
            else:
                with pytest.raises(FileExistsError):
                    await accept_all(world)
            recovered = await world.recover()
            assert len(recovered.undisposed) == 1
            failed.unlink()
            assert (await world.recover()).disposed == 1
        assert world.files("failed") == ["failed/a.wav", "failed/a.wav.error.json"]

    asyncio.run(story())
