"""`sttd run-once`: the same pool in a temporary state directory, for the files given, and out.

Composes a daemon without sockets and without a lock on anybody's state; decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sttd.config import Settings
from sttd.core import events as on
from sttd.log import Log
from sttd.supervisor.durable import StorageFull
from sttd.supervisor.ledger import LedgerError
from sttd.supervisor.main import Daemon
from sttd.supervisor.patience import Patience
from sttd.supervisor.progress import Progress
from sttd.supervisor.starting import EX_FAILED, StartError

BACKOFF_S = 1.0  # somebody is waiting at the terminal


def transcribe(settings: Settings, audio: Sequence[Path], *, as_json: bool) -> int:
    """Transcribe and print; 0 when every file has a transcript, 1 otherwise, 2 as a daemon."""
    with tempfile.TemporaryDirectory(prefix="sttd-") as folder:
        inside = _inside(settings, Path(folder), len(audio))
        return asyncio.run(_run(inside, audio, as_json=as_json))


def _inside(settings: Settings, folder: Path, files: int) -> Settings:
    """The settings, with everything that is kept kept in `folder`."""
    replace = msgspec.structs.replace
    return replace(
        settings,
        state_dir=folder,
        inbox=replace(settings.inbox, path="inbox"),
        outbox=replace(settings.outbox, path="outbox", formats=("json", "txt"), originals="delete"),
        # whoever presses Ctrl-C wants the prompt, and nothing would go on with the job anyway
        recycle=replace(settings.recycle, drain_timeout=0.0),
        retry=replace(settings.retry, backoff=min(BACKOFF_S, settings.retry.backoff)),
        limits=replace(
            settings.limits,
            max_queued=max(files, settings.limits.max_queued),
            min_free_disk=0,  # the reserve is for a daemon's disk, not for the one of TMPDIR
        ),
    )


async def _run(settings: Settings, audio: Sequence[Path], *, as_json: bool) -> int:
    log = Log(sys.stderr, format=settings.log.format, level="error")
    log.adopt_logging()
    daemon = Daemon(settings, log, listening=False)
    code = EX_FAILED
    try:
        await daemon.open()
        code = await _serve(daemon, audio, as_json=as_json)
    except StartError as error:
        print(f"sttd: {error}", file=sys.stderr)  # noqa: T201
        code = error.code
    except (OSError, StorageFull, LedgerError) as error:
        print(f"sttd: {error}", file=sys.stderr)  # noqa: T201
    finally:
        await daemon.close(code)
    return code


async def _serve(daemon: Daemon, audio: Sequence[Path], *, as_json: bool) -> int:
    jobs: dict[str, Path] = {}
    running = asyncio.create_task(daemon.run())
    with Progress(len(audio)) as progress:
        patience = Patience(
            len(audio), tell=progress.tell, troubles=lambda: daemon.loop.core.troubles
        )
        daemon.log.listen(patience.heard)
        daemon.log.listen(progress.heard)
        for path in audio:
            jobs[await _submit(daemon, path)] = path
        waiting = asyncio.create_task(patience.over.wait())
        await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        patience.close()
    failed = 0
    for job, path in jobs.items():
        why = patience.ended.get(job) or patience.reason
        failed += not await _print(daemon, job, path, why, as_json=as_json)
    if not running.done():
        daemon.loop.feed(on.StopRequested(now=False))
    code = await running
    return code or (EX_FAILED if failed else 0)


async def _submit(daemon: Daemon, path: Path) -> str:
    copy = daemon.spool.new_upload()
    await asyncio.to_thread(shutil.copyfile, path, copy)
    row, _ = await daemon.arrivals.accept_upload(copy, name=path.name)
    return row.id


async def _print(daemon: Daemon, job: str, path: Path, message: str, *, as_json: bool) -> bool:
    row = await daemon.ledger.job(job)
    if row is None or not row.outputs:
        why = message or "interrupted"
        print(f"sttd: {path}: {why}", file=sys.stderr)  # noqa: T201
        return False
    suffix = ".json" if as_json else ".txt"
    name = next(name for name in row.outputs if name.endswith(suffix))
    text = (daemon.settings.outbox_dir / name).read_text()
    with contextlib.suppress(BrokenPipeError):
        if not as_json and len(sys.argv) > 1:
            print(f"# {path}")  # noqa: T201
        print(text.rstrip("\n"), flush=True)  # noqa: T201
    return True
