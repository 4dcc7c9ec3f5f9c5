"""Retries that come while a job's original is on its way to failed/: files have one mover."""

from __future__ import annotations

from pathlib import Path

from sttd.client import Client, Refused
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone

JOBS = 40


def wishes(folder: Path, number: int) -> dict[str, object]:
    """The first attempt fails."""
    return {"options": {"raise": "transient", "once_marker": str(folder / f"once-{number}")}}


def until_failed(client: Client, job: str) -> None:
    eventually(lambda: client.show(job).state == "failed", step_s=0.0)


def check(sttd: Daemon, attempts: int | None) -> None:
    """All succeeded, nothing is left over, and the daemon lives."""
    for number in range(JOBS):
        transcript = sttd.transcript(str(number))
        assert attempts in (None, transcript["attempts"])
    eventually(lambda: sttd.leftovers() == [])
    assert list((sttd.state / "failed").iterdir()) == []
    assert sttd.stop() == 0


def test_a_job_is_retried_the_moment_it_has_failed(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    with daemon(retry={"max_attempts": 1}, pool={"workers": 2}) as sttd:
        sttd.start()
        with Client(sttd.endpoint) as client:
            for number in range(JOBS):
                options = wishes(tmp_path, number)
                job = client.submit(wav, name=f"{number}.wav", options=options).job
                until_failed(client, job)
                client.retry(job)
        check(sttd, attempts=2)
        told = [e["event"] for e in sttd.events("job.failed", "job.requeued")]
        assert told == ["job.failed", "job.requeued"] * JOBS


def test_a_job_is_cancelled_and_retried_in_one_breath(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    with daemon(pool={"workers": 1}) as sttd:
        sttd.start()
        with Client(sttd.endpoint) as client:
            for number in range(JOBS):
                options = {"options": {"sleep_s": 0.05}}
                job = client.submit(wav, name=f"{number}.wav", options=options).job
                try:
                    client.cancel(job)
                except Refused:  # it was done already
                    continue
                client.retry(job)
        check(sttd, attempts=None)


def test_a_job_that_fails_again_and_again_is_cancelled_between_two_attempts(
    tmp_path: Path,
) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    tries = {"backoff": 0, "max_attempts": 100}
    with daemon(pool={"workers": 1}, retry=tries) as sttd:
        sttd.start()
        with Client(sttd.endpoint) as client:
            for number in range(12):
                options = {"options": {"raise": "transient", "sleep_s": 0.02}}
                job = client.submit(wav, name=f"{number}.wav", options=options).job
                sttd.until("job.started", job=job, attempt=2)
                assert client.cancel(job).state == "cancelled"
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.stop() == 0


def test_all_that_failed_is_retried_while_more_is_failing(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    with daemon(retry={"max_attempts": 1}, pool={"workers": 2}) as sttd:
        sttd.start()
        for number in range(JOBS):
            sttd.drop(f"{number}.wav", wav, wishes(tmp_path, number))
        with Client(sttd.endpoint) as client:

            def is_over() -> bool:
                client.retry_all_failed()
                return client.status().queue.succeeded == JOBS

            eventually(is_over, deadline_s=60)
        check(sttd, attempts=2)
