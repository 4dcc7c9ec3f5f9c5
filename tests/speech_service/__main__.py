"""`python -m tests.speech_service '{"recogniser":"pocketsphinx"}'`: the service as a process.

Prints its port on the first line and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from tests.speech_service.behaviour import Settings
from tests.speech_service.server import SpeechService


async def _main(settings: Settings) -> None:
    service = SpeechService(recogniser=settings.recogniser, access=settings.access)
    service.plan = list(settings.plan)
    await service.start()
    sys.stdout.write(f"{service.port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await service.close()


asyncio.run(_main(msgspec.json.decode(sys.argv[1] if len(sys.argv) > 1 else "{}", type=Settings)))
