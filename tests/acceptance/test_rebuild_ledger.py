"""A destroyed ledger is made again from the files, and nothing is lost or done twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.daemon import ROOT, Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wav import tone


def rebuild(sttd: Daemon, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sttd", "rebuild-ledger", "-c", str(sttd.config), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_destroyed_ledger_is_rebuilt_and_every_job_comes_out_exactly_once(
    tmp_path: Path,
) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    with daemon() as sttd:
        sttd.start()
        for n in range(5):
            sttd.drop(f"a/done{n}.wav", wav)
        for n in range(5):
            sttd.transcript(f"a/done{n}")
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.ctl("drain", "--wait").returncode == 0
        for n in range(5):
            sttd.drop(f"waits{n}.wav", wav, {"options": {"text": f"waited {n}"}})
        sttd.until("job.accepted", 10)

        held = rebuild(sttd)
        assert held.returncode == 3
        assert "holds" in held.stderr
        sttd.kill()
        whole = rebuild(sttd)
        assert whole.returncode == 1
        assert "is whole" in whole.stderr

        ledger = sttd.state / "ledger" / "sttd.db"
        for part in ("-wal", "-shm"):
            ledger.with_name(ledger.name + part).unlink(missing_ok=True)
        ledger.write_bytes(b"damage" * 10_000)
        done = rebuild(sttd)
        assert done.returncode == 0, done.stderr
        assert "5 jobs are done, 5 wait" in done.stdout
        [aside] = ledger.parent.glob("sttd.db.damaged-*")
        assert aside.read_bytes() == b"damage" * 10_000

        sttd.start()
        for n in range(5):
            assert sttd.transcript(f"waits{n}")["text"] == f"waited {n}"
        eventually(lambda: sttd.leftovers() == [])
        sttd.drop("a/done0.wav", wav)
        assert sttd.transcript("a/done0-2")
        eventually(lambda: sttd.status()["queue"]["succeeded"] == 11, "the last one is recorded")
        eventually(lambda: sttd.leftovers() == [])
        queue = sttd.status()["queue"]
        assert (queue["succeeded"], queue["queued"], queue["failed"]) == (11, 0, 0)
        manifests = sorted(p.name for p in (sttd.state / "outbox").rglob("*.json"))
        assert len(manifests) == 11
        originals = list((sttd.state / "done").rglob("*.wav"))
        assert len(originals) == 11
        assert sttd.stop() == 0


def test_a_transcript_published_just_before_the_end_is_not_made_again(tmp_path: Path) -> None:
    wav = tone(tmp_path / "talk.wav", 0.2)
    with daemon() as sttd:
        sttd.start()
        assert sttd.ctl("drain", "--wait").returncode == 0
        sttd.drop("talk.wav", wav)
        job = sttd.until("job.accepted")["job"]
        sttd.kill()
        # what a power cut leaves after the manifest's rename and before the ledger's commit
        (sttd.state / "outbox" / "talk.json").write_text(
            f'{{"schema":"sttd.transcript/1","job_id":"{job}","attempts":1,'
            '"source":{"name":"talk.wav","bytes":1},"segments":[],"text":""}'
        )
        (sttd.state / "ledger" / "sttd.db").unlink()
        assert rebuild(sttd).returncode == 0
        sttd.start()
        eventually((sttd.state / "done" / "talk.wav").exists)
        eventually(lambda: sttd.leftovers() == [])
        assert sttd.status()["queue"]["succeeded"] == 1
        assert sttd.events("job.started") == []
