"""Write a job's outputs, whole and synced, into its staging folder; the manifest last.

Never touches a final name: the supervisor renames. A manifest (`<stem>.json`) in the staging
folder appears by rename, so it is complete and so are its siblings.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import shutil
from collections.abc import Sequence

import msgspec

from sttd import layouts
from sttd.engines import Engine, Segment
from sttd.transcripts import EngineInfo, Source, Transcript
from sttd.wire.messages import Output, Run
from sttd.worker.journal import Journal

MANIFEST = "json"
FRESH = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and what the supervisor is to know of the recording."""

    outputs: tuple[Output, ...]
    duration_s: float
    sha256: str
    clamped: int


def write_outputs(
    run: Run, engine: Engine, journal: Journal, *, duration_s: float, languages: tuple[str, ...]
) -> Written:
    """Render and write every wanted format. Raises OSError when the disk will not take it."""
    segments, changed = layouts.clamp(journal.segments(), duration_s)
    source = _source(run, duration_s)
    transcript = Transcript(
        job_id=run.job,
        source=source,
        engine=EngineInfo(name=engine.name, version=str(engine.version)),
        languages=_languages(segments, languages, engine),
        created=_now(),
        text=" ".join(s.text for s in segments if s.text),
        attempts=run.attempt,
        resumed_at_s=journal.resumed_at_s(),
        segments=tuple(segments),
    )
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(run.staging)
    os.makedirs(run.staging, mode=0o700)
    wanted = [*(f for f in run.formats if f != MANIFEST), MANIFEST]
    names = [layouts.file_name(layout, run.stem) for layout in wanted]
    rendered = [layouts.render(layout, transcript) for layout in wanted]
    _write_all(run.staging, [f".{layout}.part" for layout in wanted], names, rendered)
    outputs = [
        Output(name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in zip(names, rendered, strict=True)
    ]
    return Written(
        outputs=tuple(outputs),
        duration_s=duration_s,
        sha256=source.sha256,
        clamped=layouts.segments_in(changed),
    )


def _write_all(
    staging: str, drafts: Sequence[str], names: Sequence[str], rendered: Sequence[bytes]
) -> None:
    """Every file whole and synced before the first gets its name; the last one gets it last.

    All are written before the first is synced, and the kernel is asked to begin with all of them
    (which is what POSIX_FADV_DONTNEED does to dirty pages on Linux), so that they share the
    journal's commits: half the time that one after the other takes.
    """
    with contextlib.ExitStack() as held:
        folder = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, folder)
        files = []
        for draft, data in zip(drafts, rendered, strict=True):
            fd = os.open(draft, FRESH, 0o640, dir_fd=folder)
            held.callback(os.close, fd)
            files.append(fd)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        for fd in files:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for fd in files:
            os.fsync(fd)
        for draft, name in zip(drafts, names, strict=True):
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def _source(run: Run, duration_s: float) -> Source:
    with open(os.path.join(run.spool, "audio"), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
    return Source(name=run.name, sha256=digest, bytes=size, duration_s=duration_s)


def _languages(segments: list[Segment], asked: tuple[str, ...], engine: Engine) -> tuple[str, ...]:
    """The languages heard, in order; else those asked for; else those of the engine."""
    heard = tuple(dict.fromkeys(s.language for s in segments if s.language))
    return heard or asked or tuple(getattr(engine, "languages", ()))


def _now() -> str:
    moment = dt.datetime.now(dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
