"""What cannot work is said in one clear line, with the right exit code and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import PYTHON, ROOT, Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

EX_FAILED, EX_CONFIG, EX_HELD = 1, 2, 3


def run(sttd: Daemon, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-m", "sttd", *args, "-c", str(sttd.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr."""
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_an_unknown_key_is_named_with_file_line_and_the_nearest_key() -> None:
    with daemon(recycle={"max_request": 3}) as sttd:
        done = run(sttd)
        assert done.returncode == EX_CONFIG
        line = complaint(done)
        assert "sttd.toml" in line
        assert "recycle.max_requests" in line


def test_check_config_says_the_same_and_is_content_with_a_good_file() -> None:
    with daemon(pool={"worker": 1}) as bad, daemon() as good:
        assert run(bad, "check-config").returncode == EX_CONFIG
        good.state.mkdir()
        done = run(good, "check-config")
        assert done.returncode == 0, done.stderr
        assert "valid" in done.stdout


def test_a_second_daemon_on_the_same_state_directory_is_refused() -> None:
    with daemon() as sttd:
        sttd.start()
        done = run(sttd)
        assert done.returncode == EX_HELD
        assert str(sttd.pid) in complaint(done)
        assert sttd.status()["daemon"]["state"] == "running"


def test_a_socket_that_another_daemon_answers_on_is_not_taken_over() -> None:
    with daemon() as first, daemon() as second:
        first.start()
        second.configure(control={"endpoint": first.endpoint})
        done = run(second)
        assert done.returncode not in (0, EX_CONFIG, EX_HELD)
        assert first.endpoint.removeprefix("ipc://") in complaint(done)
        assert '"event":"daemon.failed"' in done.stdout
        assert first.status()["daemon"]["pid"] == first.pid


def test_an_ipc_path_too_long_for_the_kernel_is_refused() -> None:
    with daemon(control={"endpoint": "ipc:///tmp/" + "x" * 120}) as sttd:
        done = run(sttd)
        assert done.returncode == EX_CONFIG
        assert "107" in complaint(done)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("drilll", "drill"),  # the nearest engine is named
        ("no.such.module:Engine", "no.such.module"),
        ("tests.support.engines:Nobody", "Nobody"),
    ],
)
def test_a_missing_engine_ends_the_start(name: str, word: str) -> None:
    with daemon(engine={"name": name}) as sttd:
        done = run(sttd)
        assert done.returncode == EX_CONFIG
        assert word in complaint(done)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_inbox_ends_the_start() -> None:
    with daemon() as sttd:
        (sttd.state / "inbox").mkdir(parents=True)
        (sttd.state / "inbox").chmod(0)
        done = run(sttd)
        assert done.returncode == EX_CONFIG
        assert "inbox" in complaint(done)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"STTD_INBOX__PATH": "/etc/passwd"}, "inbox.path: /etc/passwd is no folder; move it away"),
        ({"STTD_INBOX__PATH": "/etc/passwd/in"}, "inbox.path: /etc/passwd is no folder"),
        ({"STTD_OUTBOX__PATH": "/proc/out"}, "outbox.path: the folder /proc/out cannot be used"),
        ({"STTD_STATE_DIR": "/etc/passwd"}, "STTD_STATE_DIR: state_dir: /etc/passwd is no folder"),
        ({"STTD_STATE_DIR": "/proc/state"}, "state_dir: the folder /proc/state cannot be used"),
    ],
)
def test_a_folder_that_cannot_be_used_ends_the_start_with_key_and_remedy(
    env: dict[str, str], said: str
) -> None:
    with daemon() as sttd:
        done = run(sttd, **env)
        assert done.returncode == EX_CONFIG
        assert said in complaint(done)
        assert "daemon.failed" in done.stdout


def test_a_file_in_the_way_is_named_beneath_the_state_directory_too() -> None:
    with daemon() as sttd:
        (sttd.state / "lock").mkdir(parents=True)
        done = run(sttd)
        assert done.returncode == EX_CONFIG
        assert f"state_dir: {sttd.state}/lock cannot be opened" in complaint(done)
        (sttd.state / "lock").rmdir()
        (sttd.state / "inbox").rmdir()
        (sttd.state / "inbox").write_text("not a folder")
        done = run(sttd)
        assert done.returncode == EX_CONFIG
        assert f"inbox.path: {sttd.state}/inbox is no folder" in complaint(done)


def test_check_config_calls_no_folder_on_a_read_only_file_system_valid(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o ro none {tmp_path} && exec "$@"'
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", "true"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    with daemon() as sttd:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", mount, "sh", PYTHON, "-m", "sttd", "check-config"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "STTD_CONFIG": str(sttd.config),
                "STTD_STATE_DIR": str(tmp_path / "state"),
            },
        )
    assert done.returncode == EX_CONFIG
    assert "read-only file system" in done.stderr
    assert "valid" not in done.stdout


def test_a_full_queue_refuses_submissions_and_leaves_files_in_the_inbox(tmp_path: Path) -> None:
    wav = tone(tmp_path / "a.wav", 0.2)
    with daemon(limits={"max_queued": 2}, pool={"workers": 1}) as sttd:
        sttd.start()
        sttd.ctl("drain")
        for n in range(4):
            sttd.drop(f"{n}.wav", wav)
        eventually(lambda: sttd.status()["queue"]["queued"] == 2)
        eventually(lambda: sttd.status()["daemon"]["reasons"])
        done = sttd.ctl("submit", str(wav))
        assert done.returncode == 1
        assert "max_queued" in done.stderr
        assert len(list((sttd.state / "inbox").glob("*.wav"))) == 2
        sttd.ctl("resume")
        eventually(lambda: sttd.status()["queue"]["succeeded"] == 4, deadline_s=60)


def test_sttctl_without_a_daemon_says_how_to_start_one() -> None:
    with daemon() as sttd:
        done = sttd.ctl("status")
        assert done.returncode == 4
        assert "start" in complaint(done)


def test_an_undecodable_recording_fails_at_once_with_its_reason(tmp_path: Path) -> None:
    with daemon() as sttd:
        sttd.start()
        rubbish = tmp_path / "rubbish.wav"
        rubbish.write_bytes(os.urandom(5000))
        sttd.drop("rubbish.wav", rubbish)
        failed = sttd.until("job.failed")
        assert (failed["code"], failed["attempt"]) == ("undecodable", 1)
        eventually((sttd.state / "failed" / "rubbish.wav").exists)
        assert (sttd.state / "failed" / "rubbish.wav.error.json").exists()


def test_run_once_prints_transcripts_and_leaves_nothing_behind(tmp_path: Path) -> None:
    wav = tone(tmp_path / "a.wav", 0.3)
    with daemon() as sttd:
        inside = sttd.home / "tmp"
        inside.mkdir()
        for more in ([], ["--in-process"]):
            done = run(sttd, "run-once", *more, str(wav), TMPDIR=str(inside))
            assert done.returncode == 0, done.stderr
            assert len(done.stdout.split()) > 2
        assert not sttd.state.exists()
        assert list(inside.iterdir()) == []
        assert run(sttd, "run-once", str(tmp_path / "nothing.wav")).returncode == EX_CONFIG


def test_run_once_needs_no_reserve_on_the_disk_of_its_temporary_folder(tmp_path: Path) -> None:
    wav = tone(tmp_path / "a.wav", 0.3)
    with daemon(limits={"min_free_disk": "1000000GiB"}) as sttd:
        done = run(sttd, "run-once", str(wav))
        assert done.returncode == 0, done.stderr


def test_run_once_ends_at_the_first_signal_and_leaves_nothing_behind(tmp_path: Path) -> None:
    wav = tone(tmp_path / "a.wav", 0.3)
    begun = tmp_path / "begun"
    endless = {"name": "drill", "options": {"sleep_s": 3600, "trace": str(begun)}}
    with daemon(engine=endless) as sttd:
        inside = sttd.home / "tmp"
        inside.mkdir()
        process = subprocess.Popen(
            [PYTHON, "-m", "sttd", "run-once", "-c", str(sttd.config), str(wav)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(inside)},
        )
        eventually(begun.exists, "the job runs")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
        assert process.returncode == EX_FAILED
        assert "interrupted" in error
        assert list(inside.iterdir()) == []
