"""Transcripts become visible whole or not at all; originals go where they belong; on real files."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sttd.core.jobs import JobState
from sttd.supervisor import originals, publication
from sttd.supervisor.beneath import rename_noreplace
from sttd.supervisor.durable import StorageBroken, StorageFull
from sttd.supervisor.outbox import NameTakenError, Outbox, StagingError
from sttd.supervisor.records import JobRow, Signature
from sttd.supervisor.spool import Spool, signature_of
from sttd.supervisor.uuid7 import new_id
from sttd.wire.messages import Output
from tests.support.files import manifest

REPORT = b'{"job_id":"%s","code":"undecodable","message":"no","attempts":[]}'


class Home:
    """An outbox and a spool, and jobs made by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = Spool(root / "spool")
        self.outbox = Outbox(
            root / "outbox", done=root / "done", failed=root / "failed", spool=self.spool
        )

    def job(self, name: str, data: bytes = b"audio", sidecar: bytes | None = None) -> JobRow:
        """A job whose recording lies in the spool."""
        job = new_id()
        folder = Path(self.spool.make(job))
        (folder / "audio").write_bytes(data)
        if sidecar is not None:
            (folder / "opts.json").write_bytes(sidecar)
        row = row_of(job, name, signature_of((folder / "audio").lstat()))
        self.spool.make_known(row)
        return row

    def stage(self, job: str, attempt: int = 1, stem: str = "meeting") -> tuple[Path, list[Output]]:
        staging = self.outbox.staging(job, attempt)
        staging.mkdir()
        outputs = []
        for suffix, data in (
            ("txt", b"words"),
            ("srt", b"1\n"),
            ("azure.json", b"{}"),
            ("json", manifest(job, attempt, b"audio")),
        ):
            (staging / f"{stem}.{suffix}").write_bytes(data)
            outputs.append(Output(f"{stem}.{suffix}", len(data), ""))
        return staging, outputs

    def dispose(self, row: JobRow, *, keep: bool = True) -> str | None:
        jobs = [(self.spool.folder(row.id), row.name)]
        [done] = self.outbox.dispose_successes(jobs, keep=keep)
        if isinstance(done, Exception):
            raise done
        return done

    def fail(self, row: JobRow) -> str | None:
        report = REPORT % row.id.encode()
        return self.outbox.dispose_failure(self.spool.folder(row.id), row.name, report)

    def files(self, below: str) -> list[str]:
        found = [
            str(Path(folder, name).relative_to(self.root))
            for folder, _, names in os.walk(self.root / below)
            for name in names
        ]
        return sorted(found)


def row_of(job: str, name: str, signature: Signature) -> JobRow:
    return JobRow(
        id=job,
        kind="inbox",
        name=name,
        signature=signature,
        sidecar=None,
        out_name=os.path.splitext(name)[0],
        options="{}",
        priority=0,
        key=None,
        uid=None,
        state=JobState.RUNNING,
        attempt=1,
        failures=0,
        crashes=0,
        interrupted=0,
        segments=0,
        token="t",
        worker=None,
        size=signature.size,
        sha256=None,
        duration_s=None,
        progress_s=0.0,
        outputs=(),
        original=None,
        disposed=False,
        error_code=None,
        error_message=None,
        created_ns=0,
        started_ns=None,
        finished_ns=None,
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# -- publication ------------------------------------------------------------------------------
def test_outputs_appear_beneath_the_mirrored_folder_and_staging_goes(home: Home) -> None:
    job = new_id()
    staging, outputs = home.stage(job)
    paths = home.outbox.publish(staging, "a/b/meeting", outputs)
    assert paths == [f"a/b/meeting.{suffix}" for suffix in ("txt", "srt", "azure.json", "json")]
    assert home.files("outbox") == sorted(f"outbox/{path}" for path in paths)


def test_outputs_take_the_reserved_name_whatever_the_worker_called_them(home: Home) -> None:
    job = new_id()
    staging, outputs = home.stage(job, stem="meeting")
    assert home.outbox.publish(staging, "meeting-2", outputs)[-1] == "meeting-2.json"


def test_the_manifest_comes_last_and_only_after_its_siblings_are_durable(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync = os.fsync

    def renaming(source: str, target: str) -> None:
        steps.append(Path(target).name)
        rename_noreplace(source, target)

    def syncing(descriptor: int) -> None:
        place = os.readlink(f"/proc/self/fd/{descriptor}")
        steps.append(f"sync {Path(place).name}")
        fsync(descriptor)

    monkeypatch.setattr(publication, "rename_noreplace", renaming)
    monkeypatch.setattr(os, "fsync", syncing)
    staging, outputs = home.stage(new_id())
    home.outbox.publish(staging, "a/meeting", outputs)
    assert steps == [
        "sync outbox",
        "meeting.txt",
        "meeting.srt",
        "meeting.azure.json",
        "sync a",
        "meeting.json",
        "sync a",
    ]


@pytest.mark.parametrize("suffix", ["txt", "azure.json", "json"])
def test_a_strangers_file_is_never_overwritten_and_nothing_else_appears(
    home: Home, suffix: str
) -> None:
    stranger = home.root / "outbox" / f"meeting.{suffix}"
    stranger.write_bytes(b"mine")
    staging, outputs = home.stage(new_id())
    with pytest.raises(NameTakenError, match=suffix):
        home.outbox.publish(staging, "meeting", outputs)
    assert stranger.read_bytes() == b"mine"
    assert len(home.files("outbox/.tmp")) == 4
    assert len(home.files("outbox")) == 5
    assert home.outbox.publish(staging, "meeting-2", outputs)


def test_a_disk_that_fills_up_half_way_leaves_nothing_visible(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    countdown = iter([True, True, False] + [True] * 10)

    def renaming(source: str, target: str) -> None:
        if not next(countdown):
            raise OSError(errno.ENOSPC, "full")
        rename_noreplace(source, target)

    monkeypatch.setattr(publication, "rename_noreplace", renaming)
    staging, outputs = home.stage(new_id())
    with pytest.raises(StorageFull):
        home.outbox.publish(staging, "meeting", outputs)
    assert len(home.files("outbox/.tmp")) == len(home.files("outbox")) == 4
    home.outbox.publish(staging, "meeting", outputs)
    assert len(home.files("outbox")) == 4


def test_a_broken_disk_is_told_apart_from_a_full_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    staging, outputs = home.stage(new_id())
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageBroken, match="outbox"):
        home.outbox.publish(staging, "meeting", outputs)


def test_publishing_again_changes_nothing(home: Home) -> None:
    staging, outputs = home.stage(new_id())
    first = home.outbox.publish(staging, "meeting", outputs)
    before = home.files("outbox")
    assert home.outbox.publish(staging, "meeting", outputs) == first
    assert home.files("outbox") == before


def test_a_publication_cut_in_half_is_finished(home: Home) -> None:
    staging, outputs = home.stage(new_id())
    (staging / "meeting.txt").rename(home.root / "outbox" / "meeting.txt")
    assert len(home.outbox.publish(staging, "meeting", outputs)) == 4
    assert len(home.files("outbox")) == 4


@pytest.mark.parametrize("damage", ["missing", "short", "no manifest", "wrong job", "link"])
def test_what_is_not_as_the_worker_told_is_not_published(home: Home, damage: str) -> None:
    job = new_id()
    staging, outputs = home.stage(job)
    text, last = staging / "meeting.txt", staging / "meeting.json"
    if damage == "missing":
        text.unlink()
    elif damage == "short":
        text.write_bytes(b"w")
    elif damage == "link":
        text.unlink()
        text.symlink_to("/etc/hosts")
    else:
        size = last.stat().st_size
        data = b"x" * size if damage == "no manifest" else manifest(new_id(), 1, b"audio")
        last.write_bytes(data)
    with pytest.raises(StagingError):
        home.outbox.publish(staging, "meeting", outputs)
    assert len(home.files("outbox")) == len(home.files("outbox/.tmp"))


@pytest.mark.parametrize("name", ["../evil.txt", "other.txt", "meeting.exe", "meeting"])
def test_names_that_are_no_outputs_are_refused(home: Home, name: str) -> None:
    staging, outputs = home.stage(new_id())
    with pytest.raises(StagingError):
        home.outbox.publish(staging, "meeting", [Output(name, 1, ""), outputs[-1]])


def test_names_are_taken_while_any_output_stands_there(home: Home) -> None:
    assert not home.outbox.taken("a/meeting")
    (home.root / "outbox" / "a").mkdir()
    (home.root / "outbox" / "a" / "meeting.vtt").symlink_to("nowhere")
    assert home.outbox.taken("a/meeting")
    assert not home.outbox.taken("a/meeting-2")


def test_stems_are_led_around_files_that_stand_where_folders_should(home: Home) -> None:
    (home.root / "outbox" / "a").write_bytes(b"")
    assert home.outbox.around("a/meeting") == "a-2/meeting"
    assert home.outbox.around("b/c/meeting") == "b/c/meeting"


def test_a_file_that_came_to_stand_where_a_folder_should_be_is_gone_around_at_the_last_moment(
    home: Home,
) -> None:
    row = home.job("m.json/x.wav")
    staging, outputs = home.stage(row.id, stem="x")
    (home.root / "outbox" / "m.json").write_bytes(b"{}")
    published = home.outbox.publish(staging, "m.json/x", outputs)
    assert published == [f"m.json-2/x.{suffix}" for suffix in ("txt", "srt", "azure.json", "json")]
    assert (home.root / "outbox" / "m.json").read_bytes() == b"{}"
    finished = home.outbox.finish(row)  # an end in between
    assert finished is not None
    assert sorted(finished.outputs) == sorted(published)


# -- adoption ---------------------------------------------------------------------------------
def test_a_complete_staging_folder_of_the_last_attempt_is_adopted(home: Home) -> None:
    row = home.job("meeting.wav")
    home.stage(row.id)
    finished = home.outbox.finish(row)
    assert finished is not None
    assert finished.outputs[-1] == "meeting.json"
    assert set(finished.outputs) == {f"meeting.{x}" for x in ("txt", "srt", "azure.json", "json")}
    assert finished.segments == 1
    again = home.outbox.finish(row)
    assert again == finished


def test_half_a_publication_is_adopted_whole(home: Home) -> None:
    row = home.job("meeting.wav")
    staging, _ = home.stage(row.id)
    (staging / "meeting.txt").rename(home.root / "outbox" / "meeting.txt")
    finished = home.outbox.finish(row)
    assert finished is not None
    assert len(finished.outputs) == 4


@pytest.mark.parametrize("lack", ["manifest", "torn manifest", "older attempt", "other job"])
def test_what_is_not_complete_is_not_adopted(home: Home, lack: str) -> None:
    row = home.job("meeting.wav")
    attempt = 2 if lack == "older attempt" else 1
    staging, _ = home.stage(row.id, attempt)
    if attempt == 2:
        row = msgspec.structs.replace(row, attempt=3)
    if lack == "manifest":
        (staging / "meeting.json").unlink()
    elif lack == "torn manifest":
        data = (staging / "meeting.json").read_bytes()
        (staging / "meeting.json").write_bytes(data[:-5])
    elif lack == "other job":
        (staging / "meeting.json").write_bytes(manifest(new_id(), 1, b""))
    assert home.outbox.finish(row) is None
    assert home.files("outbox") == home.files("outbox/.tmp")


def test_another_jobs_manifest_under_the_name_is_not_adopted(home: Home) -> None:
    row = home.job("meeting.wav")
    (home.root / "outbox" / "meeting.json").write_bytes(manifest(new_id(), 1, b""))
    assert home.outbox.finish(row) is None


def test_only_staging_folders_are_cleared(home: Home) -> None:
    home.stage(new_id())
    (home.outbox.staging_root / "mine").mkdir()
    assert home.outbox.drop_all() == 1
    assert [path.name for path in home.outbox.staging_root.iterdir()] == ["mine"]


# -- originals --------------------------------------------------------------------------------
def test_originals_are_kept_with_their_sidecars_and_numbered(home: Home) -> None:
    rows = [home.job("a/m.wav", b"%d" % n, b"{}") for n in range(3)]
    assert [home.dispose(row) for row in rows] == [
        "done/a/m.wav",
        "done/a/m-2.wav",
        "done/a/m-3.wav",
    ]
    assert (home.root / "done/a/m-2.wav").read_bytes() == b"1"
    assert (home.root / "done/a/m-2.wav.json").exists()
    assert home.files("spool") == []
    assert list((home.root / "spool").glob("??")) == []


def test_numbers_go_on_after_a_restart_and_around_strangers(home: Home, tmp_path: Path) -> None:
    home.dispose(home.job("m.wav"))
    (home.root / "done" / "m-2.wav").mkdir()
    later = Home(tmp_path)
    assert later.dispose(later.job("m.wav")) == "done/m-3.wav"
    assert later.dispose(later.job("m.wav")) == "done/m-4.wav"


def test_originals_are_deleted_when_so_configured(home: Home) -> None:
    row = home.job("m.wav", sidecar=b"{}")
    assert home.dispose(row, keep=False) is None
    assert home.dispose(row, keep=False) is None
    assert home.files("spool") == home.files("done") == []


def test_a_failure_has_its_report_and_its_sidecar_under_one_number(home: Home) -> None:
    rows = [home.job("a/m.wav", sidecar=b"?") for _ in range(2)]
    assert [home.fail(row) for row in rows] == ["failed/a/m.wav", "failed/a/m-2.wav"]
    assert home.files("failed") == [
        "failed/a/m-2.wav",
        "failed/a/m-2.wav.error.json",
        "failed/a/m-2.wav.json",
        "failed/a/m.wav",
        "failed/a/m.wav.error.json",
        "failed/a/m.wav.json",
    ]
    report = msgspec.json.decode((home.root / "failed/a/m-2.wav.error.json").read_bytes())
    assert report["job_id"] == rows[1].id
    assert home.files("spool") == []


def test_a_number_is_free_only_when_report_and_original_fit(home: Home) -> None:
    (home.root / "failed" / "m.wav").write_bytes(b"stranger")
    (home.root / "failed" / "m-2.wav.error.json").write_bytes(b"stranger")
    assert home.fail(home.job("m.wav")) == "failed/m-3.wav"
    assert (home.root / "failed" / "m.wav").read_bytes() == b"stranger"
    assert not (home.root / "failed" / "m.wav.error.json").exists()


def test_the_report_is_there_before_the_original(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def renaming(source: str, target: str, **folders: int) -> None:
        order.append(Path(target).name)
        rename_noreplace(source, target, **folders)

    monkeypatch.setattr(originals, "rename_noreplace", renaming)
    home.fail(home.job("m.wav"))
    assert order == ["m.wav.error.json", "m.wav"]


@pytest.mark.parametrize("length", [251, 245, 200])
def test_the_longest_names_find_their_place(home: Home, length: int) -> None:
    name = "é" * (length // 2) + "x" * (length % 2) + ".wav"
    for _ in range(2):
        where = home.fail(home.job(name, sidecar=b"{}"))
        assert where is not None
        assert (home.root / where).exists()
        assert (home.root / f"{where}.error.json").exists()
        where = home.dispose(home.job(name, sidecar=b"{}"))
        assert where is not None
        assert (home.root / where).exists()


def test_a_file_in_the_way_of_a_folder_is_gone_around(home: Home) -> None:
    home.dispose(home.job("a.wav"))
    assert home.dispose(home.job("a.wav/b.wav")) == "done/a.wav-2/b.wav"
    home.fail(home.job("a.wav"))
    assert home.fail(home.job("a.wav/b.wav")) == "failed/a.wav-2/b.wav"


# -- once more after a crash ------------------------------------------------------------------
class Cut(Exception):  # noqa: N818 - stands for a SIGKILL
    """The daemon ends here."""


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """cuts[0]: how many more renames and fsyncs succeed."""
    left = [1_000_000]
    fsync, rmdir = os.fsync, os.rmdir

    def step() -> None:
        if left[0] == 0:
            raise Cut
        left[0] -= 1

    def renaming(source: str, target: str, **folders: int) -> None:
        step()
        rename_noreplace(source, target, **folders)

    def syncing(descriptor: int) -> None:
        step()
        fsync(descriptor)

    def removing(path: str, **options: int) -> None:
        step()
        rmdir(path, **options)

    monkeypatch.setattr(originals, "rename_noreplace", renaming)
    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "rmdir", removing)
    yield left
    left[0] = 1_000_000


@pytest.mark.parametrize("end", ["kept", "failed"])
@pytest.mark.parametrize("steps", range(12))
def test_putting_away_may_be_cut_anywhere_and_repeated(
    tmp_path: Path, cuts: list[int], end: str, steps: int
) -> None:
    home = Home(tmp_path)
    folder = "done" if end == "kept" else "failed"
    (home.root / folder / "m.wav").write_bytes(b"an earlier one")
    row = home.job("m.wav", b"audio", b"{}")
    put_away = home.dispose if end == "kept" else home.fail
    cuts[0] = steps
    try:
        put_away(row)
    except Cut:
        assert cuts[0] == 0
    cuts[0] = 1_000_000
    later = Home(tmp_path)
    again = (later.dispose if end == "kept" else later.fail)(row)
    wanted = {f"{folder}/m.wav", f"{folder}/m-2.wav", f"{folder}/m-2.wav.json"}
    if end == "failed":
        wanted.add("failed/m-2.wav.error.json")
    assert set(later.files(folder)) == wanted
    assert (home.root / folder / "m-2.wav").read_bytes() == b"audio"
    assert later.files("spool") == []
    # when even the folder in the spool was gone, nobody needs to know any more where it went
    assert again in (f"{folder}/m-2.wav", None)


# -- retry ------------------------------------------------------------------------------------
def test_a_failed_original_is_taken_back_with_its_sidecar(home: Home) -> None:
    row = home.job("a/m.wav", b"audio", b"{}")
    where = home.fail(row)
    assert where is not None
    assert home.outbox.reclaim(where, row.id, row.signature)
    assert home.files("failed") == []
    assert home.spool.audio(row.id).read_bytes() == b"audio"
    assert home.spool.options(row.id).exists()
    assert home.outbox.reclaim(where, row.id, row.signature)


def test_what_is_no_report_is_left_when_an_original_is_taken_back(home: Home) -> None:
    row = home.job("m.wav")
    where = home.fail(row)
    assert where is not None
    (home.root / "failed" / "m.wav.error.json").write_bytes(b"a note of somebody's")
    assert home.outbox.reclaim(where, row.id, row.signature)
    assert home.files("failed") == ["failed/m.wav.error.json"]


@pytest.mark.parametrize("report", ["stays", "is removed"])
def test_another_jobs_original_under_the_same_name_is_not_taken_back(
    home: Home, report: str
) -> None:
    first = home.job("m.wav", b"the first")
    where = home.fail(first)
    assert where is not None
    for name in home.files("failed"):
        (home.root / name).unlink()
    later = Home(home.root)  # numbers begin anew with every life
    second = later.job("m.wav", b"another one", b"{}")
    assert later.fail(second) == where
    if report == "is removed":
        (home.root / "failed" / "m.wav.error.json").unlink()
    there = home.files("failed")
    assert not later.outbox.reclaim(where, first.id, first.signature)
    assert later.files("failed") == there
    assert later.files("spool") == []
    assert later.outbox.reclaim(where, second.id, second.signature)
    assert later.spool.audio(second.id).read_bytes() == b"another one"
    assert later.files("failed") == []


@pytest.mark.parametrize("steps", range(8))
def test_taking_back_may_be_cut_anywhere_and_repeated(
    tmp_path: Path, cuts: list[int], steps: int
) -> None:
    home = Home(tmp_path)
    row = home.job("m.wav", b"audio", b"{}")
    where = home.fail(row)
    assert where is not None
    cuts[0] = steps
    with contextlib.suppress(Cut):
        home.outbox.reclaim(where, row.id, row.signature)
    cuts[0] = 1_000_000
    assert Home(tmp_path).outbox.reclaim(where, row.id, row.signature)
    folder = home.spool.folder(row.id)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "audio": b"audio",
        "opts.json": b"{}",
    }
    assert home.files("failed") == []


def test_an_original_that_was_removed_cannot_be_taken_back(home: Home) -> None:
    row = home.job("m.wav")
    where = home.fail(row)
    assert where is not None
    (home.root / where).unlink()
    assert not home.outbox.reclaim(where, row.id, row.signature)
    assert home.files("spool") == []


def test_a_lone_sidecar_is_not_taken_for_that_of_a_failed_recording(
    home: Home, tmp_path: Path
) -> None:
    row = home.job("m.wav")
    where = home.fail(row)
    assert where is not None
    (tmp_path / "m.wav.json").write_bytes(b"{}")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        aside = home.outbox.set_aside(folder, "m.wav.json", "m.wav.json", b"{}")
    finally:
        os.close(folder)
    assert aside == "failed/m.wav.json"
    assert home.outbox.reclaim(where, row.id, row.signature)
    assert home.files("failed") == ["failed/m.wav.json", "failed/m.wav.json.error.json"]
