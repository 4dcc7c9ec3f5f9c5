"""What the whole process needs before anything else: rights, limits, folders. Decides nothing."""

from __future__ import annotations

import errno
import gc
import os
import resource
from contextlib import suppress
from pathlib import Path

from sttd import linux
from sttd.config import Settings
from sttd.supervisor.lease import ignore_sigio


def boot_id() -> str:
    """The kernel's name of this boot: what CLOCK_BOOTTIME counts within."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def prepare_process() -> None:
    """What the whole process needs: orphans, descriptors, no lease signals, one heap."""
    linux.become_subreaper()
    linux.set_name("sttd")
    linux.one_arena()
    ignore_sigio()
    os.umask(0o027)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle_memory() -> None:
    """What is there now stays: collections look at the rest alone, and so come in time."""
    gc.collect()
    gc.freeze()


def make_folders(settings: Settings) -> None:
    """Create what is missing and look into the inbox; raises OSError naming the folder."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    private = (settings.spool_dir, settings.ledger_path.parent, settings.logs_dir)
    shared = (
        settings.inbox_dir,
        settings.outbox_dir,
        settings.outbox_dir / ".tmp",
        settings.done_dir,
        settings.failed_dir,
    )
    for folder in shared:
        folder.mkdir(parents=True, exist_ok=True)
    for folder in private:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.listdir(settings.inbox_dir)
    _require_one_disk(settings)


def _require_one_disk(settings: Settings) -> None:
    """Refuse done/ and failed/ into which no original could ever be renamed."""
    spool = settings.spool_dir
    for folder in (settings.done_dir, settings.failed_dir):
        if folder.stat().st_dev != spool.stat().st_dev:
            leads = f"leads to {folder.resolve()}, " if folder.is_symlink() else ""
            raise OSError(
                errno.EXDEV,
                f"{leads}on another file system than {spool}, and originals are renamed from one "
                "to the other",
                str(folder),
            )
