"""Disks that fail, fill up, turn read-only or go away under the real daemon.

What the environment does costs no job an attempt; sttd says what is wrong and goes on by itself
once it is over. Only a disk that may have lost what it was given ends the daemon.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sttd.client import Client, Refused, SttdError
from tests.support import faults
from tests.support.faults import Disk, Machine, machine
from tests.support.quota import WITHOUT_RESOURCE, Quota
from tests.support.waiting import eventually
from tests.support.wav import tone


@pytest.mark.parametrize(
    "label",
    [
        r"^fsync inbox/",
        r"^fsync spool/XX",
        r"^renameat2 outbox",
        r"^fsync outbox$",
        r"^fsync done",
    ],
)
def test_eio_ends_the_daemon_and_the_next_start_recovers(label: str) -> None:
    with machine() as m:
        story = faults.tell(m)
        nth = 3 if label == r"^fsync outbox$" else 1
        m.sttd.start(wait=False, env=m.environment(how="EIO", label=label, nth=nth))
        assert m.sttd.process is not None
        if story.submitted:
            eventually(lambda: m.sttd.events("daemon.ready") or m.sttd.events("daemon.failed"))
        assert m.sttd.process.wait(20) == 1
        (failed,) = m.sttd.events("daemon.failed")
        assert "check the disk" in failed["message"]
        faults.recover(m, story)


@pytest.mark.parametrize(
    ("label", "nth"),
    [(r"^fsync spool/\.upload/", 1), (r"^fsync spool/\.upload/", 2), (r"^fsync failed", 1)],
)
def test_eio_that_a_request_meets_is_an_answer_and_ends_the_daemon(
    tmp_path: Path, label: str, nth: int
) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    with machine() as m:
        sttd = m.sttd
        sttd.start(env=m.environment(label=label, nth=nth, how="EIO"))
        with Client(sttd.endpoint) as client:
            client.drain()
            with pytest.raises(Refused, match="check the disk"):
                client.cancel(client.submit(wav, key="k").job)
        assert sttd.process is not None
        assert sttd.process.wait(20) == 1
        (failed,) = sttd.events("daemon.failed")
        assert "check the disk" in failed["message"]
        sttd.start()
        with Client(sttd.endpoint) as client:
            job = client.submit(wav, key="k").job  # one that failed is known no more
            assert client.show(job).state in ("queued", "running", "succeeded", "cancelled")
        if "failed" not in label:
            assert sttd.transcript("talk")["job_id"] == job
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.stop() == 0


def reasons(m: Machine) -> list[str]:
    """Why it is degraded, by its status."""
    return [str(reason) for reason in m.sttd.status()["daemon"]["reasons"]]


def degraded(m: Machine) -> Callable[[], bool]:
    def look() -> bool:
        with Client(m.sttd.endpoint, patience_s=20) as client:
            return bool(client.status().daemon.reasons)

    return look


def healthy(m: Machine) -> bool:
    return not degraded(m)()


def fill(folder: Path, *, leave: int = 0) -> Path:
    """A file that takes all room on the disk of `folder` but `leave` bytes."""
    path = folder / "filling"
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize if leave else 1 << 40
    with path.open("ab") as file:
        block = b"\0" * (1 << 16)
        left = free - leave
        try:
            while left > 0:
                left -= file.write(block[: max(0, min(len(block), left))])
                file.flush()
        except OSError:
            pass
    return path


def test_a_full_disk_costs_no_attempt_and_is_overcome_when_there_is_room(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.5)
    with machine(disk="96M", retry={"max_attempts": 1}) as m:
        sttd = m.sttd
        sttd.start()
        sttd.drop("slow.wav", wav, {"options": {"sleep_s": 1.0}})
        sttd.drop("unlucky.wav", wav, {"options": {"sleep_s": 0.5, "raise": "invalid"}})
        sttd.until("job.started")
        waiting = [sttd.drop(f"w{n}.wav", wav) for n in range(3)]
        sttd.until("job.accepted", 5)
        inbox = sttd.state / "inbox"
        parts = [inbox / f"late{n}.part" for n in range(40)]
        for part in parts:
            part.write_bytes(wav.read_bytes())
        filling = fill(sttd.state)
        late: list[Path] = []

        def is_degraded() -> bool:
            # the ledger's ballast makes room at first; that is taken, too
            fill(sttd.state)
            if parts:
                part = parts.pop()
                late.append(part.rename(part.with_suffix(".wav")))
            return degraded(m)()

        eventually(is_degraded, "it says that something is wrong")

        def is_refused() -> bool:
            fill(sttd.state)  # what it gave up meanwhile
            with Client(sttd.endpoint) as client:
                try:
                    client.submit(wav.read_bytes() * 50, name="too-much.wav")
                except SttdError:
                    return True
            return False

        eventually(is_refused, "an upload is refused")
        filling.unlink()
        for path in (*waiting, *late, Path("slow.wav")):
            assert sttd.transcript(path.stem), path
        sttd.until("job.failed", source="unlucky.wav")
        eventually(lambda: healthy(m), "it is healthy again")
        # an upload that its client gave up is kept for a while, and is no job's
        eventually(lambda: [one for one in sttd.leftovers() if ".upload" not in one] == [])
        assert sttd.events("daemon.failed") == []
        assert sttd.stop() == 0
        codes = {e["code"] for e in sttd.events("job.failed")}
        assert codes == {"invalid_audio"}


def test_a_quota_costs_no_attempt_and_is_overcome_when_it_is_raised(tmp_path: Path) -> None:
    """EDQUOT comes where ENOSPC would, and from SQLite as a plain I/O error."""
    faults.require_mounts()
    wav = tone(tmp_path / "talk.wav", 0.5)
    with machine(retry={"max_attempts": 1}) as m:
        sttd = m.sttd
        disk = Disk(
            sttd.home / "disk", sttd.state, "256M", options="loop,usrquota", features="quota"
        )
        m.disks.append(disk)
        quota = Quota(sttd.state)
        sttd.under = WITHOUT_RESOURCE
        sttd.start()
        sttd.drop("slow.wav", wav, {"options": {"sleep_s": 1.0}})
        sttd.until("job.started")
        quota.limit(quota.used() + (8 << 10))
        waiting = [sttd.drop(f"w{n}.wav", wav) for n in range(10)]

        def is_degraded() -> bool:
            # the ledger's ballast makes room at first
            quota.limit(quota.used() + 4096)
            waiting.append(sttd.drop(f"more{len(waiting)}.wav", wav))
            return degraded(m)()

        eventually(is_degraded, "it says that something is wrong")
        told = [str(e["reasons"]) for e in sttd.events("daemon.degraded")]
        assert any("uota" in line or "full" in line for line in told), told
        quota.limit(0)
        for path in (*waiting, Path("slow.wav")):
            assert sttd.transcript(path.stem), path
        eventually(lambda: healthy(m), "it is healthy again")
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.events("daemon.failed", "job.failed") == []
        assert sttd.stop() == 0


@contextlib.contextmanager
def without_quota(m: Machine, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """As if a quota of the kernel were used up: strace makes the supervisor's calls fail."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (apt: strace)")
    calls = "pwrite64,mkdir,mkdirat,ftruncate,fallocate"
    command = ["strace", "-f", "-qq", "-o", str(log), "-p", str(m.sttd.pid)]
    command += ["-e", f"trace={calls}", "-e", f"inject={calls}:error=EDQUOT"]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield tracer
        if tracer.poll() is not None:
            pytest.skip("strace cannot attach")
    finally:
        tracer.terminate()
        tracer.wait()


def drop_until_it_is_degraded(m: Machine, tracer: subprocess.Popen[bytes], wav: Path) -> list[str]:
    """The names of the recordings; the first ones may have come before the tracer was there."""
    dropped: list[str] = []

    def look() -> bool:
        dropped.append(f"more-{len(dropped)}")
        m.sttd.drop(f"{dropped[-1]}.wav", wav)
        return tracer.poll() is not None or degraded(m)()

    eventually(look, "it is degraded", step_s=0.1)
    return dropped


def test_edquot_in_every_write_costs_no_attempt_and_passes_when_it_is_over(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.5)
    with machine(retry={"max_attempts": 1}) as m:
        sttd = m.sttd
        sttd.start()
        sttd.drop("slow.wav", wav, {"options": {"sleep_s": 1.0}})
        sttd.until("job.started")
        with without_quota(m, tmp_path / "strace") as tracer:
            dropped = drop_until_it_is_degraded(m, tracer, wav)
        for name in (*dropped, "slow"):
            assert sttd.transcript(name), name
        eventually(lambda: healthy(m), "it is healthy again")
        assert sttd.events("daemon.failed", "job.failed") == []
        assert sttd.stop() == 0


def test_evidence_that_finds_no_room_costs_neither_the_kill_nor_the_job(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.5)
    with machine(disk="96M", recycle={"stall_timeout": "1s"}) as m:
        sttd = m.sttd
        sttd.start()
        options = {"hang": True, "once_marker": str(tmp_path / "once")}
        sttd.drop("hangs.wav", wav, {"options": options})
        sttd.until("job.started")
        filling = [fill(sttd.state)]

        def is_killed() -> bool:
            fill(sttd.state)  # and what the ballast gave back
            return bool(sttd.events("worker.exited"))

        eventually(is_killed, "the worker that hangs is killed")
        assert sttd.events("worker.killed")[0]["reason"] == "stalled"
        filling[0].unlink()
        assert sttd.transcript("hangs")["attempts"] >= 2  # one that found no room is counted
        assert sttd.events("daemon.failed", "job.failed") == []
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.stop() == 0


def test_jobs_whose_time_comes_while_the_disk_is_full_wait_for_room(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.5)
    with machine(disk="96M", retry={"backoff": "500ms"}) as m:
        sttd = m.sttd
        sttd.start()
        for name in "abc":
            options = {"sleep_s": 0.3, "raise": "transient", "once_marker": str(tmp_path / name)}
            sttd.drop(f"{name}.wav", wav, {"options": options})
        sttd.until("job.deferred")
        end = time.monotonic() + 3.0  # the times of all three come within

        def is_over() -> bool:
            fill(sttd.state)  # the ballast, too, which the second deferral gives up
            return time.monotonic() > end

        eventually(is_over)
        (sttd.state / "filling").unlink()
        for name in "abc":  # an attempt that found no room itself costs none, and is counted
            assert sttd.transcript(name)["attempts"] >= 2
        assert sttd.events("daemon.failed", "job.failed") == []
        assert sttd.stop() == 0


def refusal(m: Machine, verb: str, job: str) -> str | None:
    """The error code, if it is refused."""
    try:
        with Client(m.sttd.endpoint) as client:
            getattr(client, verb)(job)
    except Refused as error:
        return error.code
    return None


def test_a_cancel_and_a_retry_without_room_are_told_so_and_hold_once_there_is_some(
    tmp_path: Path,
) -> None:
    wav = tone(tmp_path / "talk.wav", 0.5)
    with machine(retry={"max_attempts": 1}) as m:
        sttd = m.sttd
        sttd.start()
        options = {"raise": "transient", "once_marker": str(tmp_path / "once")}
        sttd.drop("a.wav", wav, {"options": options})
        failed = sttd.until("job.failed")["job"]
        sttd.ctl("drain")
        sttd.drop("b.wav", wav)
        waiting = sttd.until("job.accepted", source="b.wav")["job"]

        with without_quota(m, tmp_path / "strace") as tracer:
            dropped = drop_until_it_is_degraded(m, tracer, wav)
            said = [refusal(m, "cancel", waiting), refusal(m, "retry", failed)]
        assert said == ["environment", "environment"]
        assert refusal(m, "retry", failed) is None
        assert refusal(m, "cancel", waiting) is None
        sttd.ctl("resume")
        assert sttd.transcript("a")["attempts"] == 2
        for name in dropped:
            assert sttd.transcript(name), name
        assert sttd.events("daemon.failed") == []
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.stop() == 0


def test_sigterm_on_a_full_disk_ends_the_daemon_and_loses_nothing(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.5)
    with machine(disk="96M", recycle={"drain_timeout": "500ms", "grace": "1s"}) as m:
        sttd = m.sttd
        sttd.start()
        options = {"hang": True, "text": "at last", "once_marker": str(tmp_path / "once")}
        sttd.drop("runs.wav", wav, {"options": options})
        sttd.until("job.started")
        sttd.drop("waits.wav", wav)
        sttd.until("job.accepted", 2)
        filling = fill(sttd.state)
        assert sttd.process is not None
        sttd.process.terminate()

        def is_gone() -> bool:
            fill(sttd.state)
            assert sttd.process is not None
            return sttd.process.poll() is not None

        eventually(is_gone, "it ends all the same", 40)
        assert sttd.process.returncode == 0
        filling.unlink()
        sttd.start()
        assert sttd.transcript("waits")
        assert sttd.transcript("runs")["text"] == "at last"
        assert sttd.events("daemon.failed", "job.failed") == []
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.stop() == 0
        assert [row["state"] for row in faults.rows(m)] == ["succeeded"] * 2


def test_below_the_floor_nothing_is_claimed_and_nothing_is_lost(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.3)
    with machine(disk="200M", limits={"min_free_disk": "40MiB"}) as m:
        sttd = m.sttd
        sttd.start()
        filling = fill(sttd.state, leave=30 << 20)
        sttd.drop("a.wav", wav)
        trouble = sttd.until("inbox.trouble")
        assert "min_free_disk" in trouble["message"]
        assert degraded(m)()
        with Client(sttd.endpoint) as client, pytest.raises(Refused, match="min_free_disk") as told:
            client.submit(wav.read_bytes(), name="b.wav")
        assert told.value.code == "environment"
        assert "lower limits.min_free_disk" in told.value.hint
        assert faults.rows(m) == []
        assert (sttd.state / "inbox" / "a.wav").exists()
        filling.unlink()
        assert sttd.transcript("a")["attempts"] == 1
        eventually(lambda: healthy(m), "it is healthy again")


def test_an_inbox_that_is_renamed_away_is_missed_and_taken_up_again(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.3)
    with machine() as m:
        sttd = m.sttd
        sttd.start()
        inbox, away = sttd.state / "inbox", sttd.state / "away"
        inbox.rename(away)
        eventually(degraded(m), "it says that the inbox is gone")
        assert "inbox" in sttd.until("inbox.trouble")["message"]
        (away / "kept.wav").write_bytes(wav.read_bytes())
        away.rename(inbox)
        assert sttd.transcript("kept")
        eventually(lambda: healthy(m), "it is healthy again")
        # replaced by another folder: the bell must hang on the new one
        inbox.rename(away)
        inbox.mkdir()
        sttd.drop("other.wav", wav)
        assert sttd.transcript("other")
        assert sttd.stop() == 0


def test_a_state_directory_that_is_unmounted_and_mounted_again_is_survived(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.3)
    with machine(disk="256M") as m:
        sttd = m.sttd
        sttd.start()
        subprocess.run(["umount", "-l", str(sttd.state)], check=True)
        eventually(degraded(m), "it says that the inbox is gone")
        m.disks[0].attach()
        sttd.drop("back.wav", wav)
        assert sttd.transcript("back")
        eventually(lambda: healthy(m), "it is healthy again")
        assert sttd.stop() == 0


def test_a_submission_while_the_outbox_is_away_is_told_what_is_missing(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.3)
    with machine() as m:
        sttd = m.sttd
        sttd.start()
        outbox = sttd.state / "outbox"
        outbox.rename(outbox.with_name("away"))
        with Client(sttd.endpoint) as client:
            with pytest.raises(Refused, match=str(outbox)) as told:
                client.submit(wav, key="k")
            assert (told.value.code, "outbox.path" in told.value.hint) == ("environment", True)
            outbox.with_name("away").rename(outbox)
            client.submit(wav, key="k")
        assert sttd.transcript("talk")
        assert sttd.stop() == 0


def test_an_inbox_over_which_another_disk_is_mounted_is_said_and_waited_for(
    tmp_path: Path,
) -> None:
    faults.require_mounts()
    wav = tone(tmp_path / "talk.wav", 0.3)
    with machine(disk="256M") as m:
        sttd = m.sttd
        sttd.start()
        inbox = sttd.state / "inbox"
        other = Disk(sttd.home / "other", inbox, "16M")
        try:
            sttd.drop("foreign.wav", wav)
            trouble = sttd.until("inbox.trouble")
            assert "another file system" in trouble["message"]
            assert degraded(m)()
        finally:
            other.throw_away()
        sttd.drop("own.wav", wav)
        assert sttd.transcript("own")
        eventually(lambda: healthy(m), "it is healthy again")
        assert [row["name"] for row in faults.rows(m)] == [b"own.wav"]
        assert sttd.stop() == 0


def test_an_inbox_that_is_another_mount_of_the_same_disk_ends_nothing(tmp_path: Path) -> None:
    """Its device is the spool's, and yet nothing can be renamed from one to the other (EXDEV)."""
    faults.require_mounts()
    wav = tone(tmp_path / "talk.wav", 0.3)
    with machine(disk="256M") as m:
        sttd = m.sttd
        sttd.start()
        elsewhere = sttd.state / "elsewhere"
        elsewhere.mkdir()
        inbox = str(sttd.state / "inbox")
        subprocess.run(["mount", "--bind", str(elsewhere), inbox], check=True)
        try:
            sttd.drop("kept.wav", wav)
            trouble = sttd.until("inbox.trouble")
            assert "mount" in trouble["message"], trouble
            assert degraded(m)()
            assert (elsewhere / "kept.wav").exists()
        finally:
            subprocess.run(["umount", "-l", inbox], check=True)
        sttd.drop("own.wav", wav)
        assert sttd.transcript("own")
        eventually(lambda: healthy(m), "it is healthy again")
        assert sttd.stop() == 0


def test_an_outbox_that_turns_read_only_costs_no_attempt(tmp_path: Path) -> None:
    faults.require_mounts()
    wav = tone(tmp_path / "talk.wav", 0.3)
    with machine() as m:
        sttd = m.sttd
        place = sttd.state / "outbox"
        disk = faults.Disk(sttd.home / "outbox-disk", place, "16M")
        try:
            sttd.start()
            sttd.drop("a.wav", wav)
            assert sttd.transcript("a")
            eventually(lambda: sttd.leftovers() == [])
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            sttd.drop("b.wav", wav)
            held = sttd.until("job.deferred", source="b.wav")
            assert "ead-only" in held["message"]
            subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
            row = next(r for r in faults.rows(m) if r["name"] == b"b.wav")
            assert row["state"] == "deferred"
            assert sttd.transcript("b", 60)
            assert sttd.events("job.failed") == []
            assert sttd.stop() == 0
        finally:
            sttd.clean_up()
            disk.throw_away()
