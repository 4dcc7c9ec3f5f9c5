"""Requests to the identity endpoint over many jobs and workers, through the whole daemon.

    python -m benchmarks.azure_identity [JOBS] [JOBS_PER_WORKER]

Managed identity (App Service's way) against local endpoints. Prints one JSON object; the helper
keeps the token, so the count should be 1 whatever the number of workers.
"""

from __future__ import annotations

import json
import sys
import tempfile
import wave
from pathlib import Path

from tests.speech_service.identity import Identity
from tests.speech_service.marks import marked_pcm
from tests.speech_service.running import running_service
from tests.support.azure import HURRY
from tests.support.daemon import daemon
from tests.support.waiting import eventually


def recording(folder: Path) -> Path:
    """Two seconds of marks."""
    path = folder / "marks.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(marked_pcm(2.0, 0.0))
    return path


def main(jobs: int = 200, jobs_per_worker: int = 5) -> None:
    """Run, count, print."""
    identity = Identity()
    identity.start()
    with tempfile.TemporaryDirectory() as folder, running_service() as service:
        options = {
            "host": service.host,
            "auth": "entra",
            "credential": "managed-identity",
            "properties": HURRY,
        }
        with daemon(
            engine={"name": "azure", "azure": options},
            pool={"workers": 4},
            recycle={"max_requests": jobs_per_worker},
        ) as sttd:
            sttd.start(env=identity.environment)
            source = recording(Path(folder))
            for n in range(jobs):
                sttd.drop(f"{n}.wav", source)
            eventually(lambda: sttd.status()["queue"]["succeeded"] == jobs, "all done", 600)
            status = sttd.status()
            sttd.stop()
    identity.stop()
    workers = len(status["pool"]["workers"]) + sum(status["recycles"].values())
    tokens = {t for s in service.counters.sessions.values() for t in s.tokens}
    print(
        json.dumps(
            {
                "jobs": jobs,
                "workers": workers,
                "sessions": len(service.counters.sessions),
                "identity_requests": len(identity.asked),
                "tokens_seen_by_the_service": len(tokens),
            }
        )
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
