#!/usr/bin/env python3
"""`make demo`: a real sttd, real recordings, workers recycled before your eyes, and out again.

    python scripts/demo.py [AUDIO...]

Starts the daemon on the engine `pocketsphinx` in a temporary state directory, drops recordings
into its inbox, shows what happens as it happens, prints the transcripts, drains and stops it.
Exit code 0 when every recording has a transcript and at least one worker was recycled, else 1.
It talks to the daemon as anybody would: files, sttctl, signals, and the log on its standard output.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "tests" / "recordings"
REAL = ROOT.parent / "shared" / "audio"  # real speech, where somebody has put some
KINDS = {".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".mp4", ".webm", ".aac", ".amr", ".wma"}
AT_LEAST = 8  # recordings: two workers of three jobs each, and some more
SHORT = 500_000  # bytes; longer ones would be waited for
DEADLINE_S = 600.0
LEAVING_S = 20.0

CONFIG = """\
state_dir = "{home}/state"

[inbox]
settle = "0.2s"

[control]
endpoint = "ipc://{home}/control.sock"
events = "ipc://{home}/events.sock"
group = ""

[limits]
min_free_disk = "64MiB"

[recycle]
max_requests = 3
max_requests_jitter = 0

[engine]
name = "pocketsphinx"

[log]
format = "json"
"""

# Events worth a line to somebody who sees sttd for the first time, and how they look.
SHOWN = {
    "daemon.ready": "[bold]{event}[/]  engine {engine}, process {pid}",
    "template.ready": "{event}  {engine} {version} loaded, workers are forked from here",
    "worker.ready": "{event}  {worker} (process {pid}) after {ready_s:.3f} s",
    "job.accepted": "{event}  {source}",
    "job.started": "{event}  {source} on {worker}",
    "job.succeeded": "[green]{event}[/]  {source}, {duration_s:.1f} s of audio",
    "job.failed": "[red]{event}[/]  {source}: {message}",
    "job.deferred": "[yellow]{event}[/]  {source}: {message}",
    "worker.recycled": "[black on yellow] {event} [/]  {worker} after {requests} jobs ({reason}), "
    "{age_s:.1f} s old, {rss_mib} MiB",
    "inbox.rejected": "[red]{event}[/]  {source}: {message}",
    "daemon.failed": "[red]{event}[/]  {message}",
    "daemon.drained": "{event}",
    "daemon.stopped": "[bold]{event}[/]  exit code {exit_code}",
}


class DemoError(Exception):
    """The demonstration cannot go on; one line."""


class Demo:
    """One daemon in one temporary folder."""

    def __init__(self, home: Path, console: Console) -> None:
        self.home = home
        self.console = console
        self.started = time.monotonic()
        self.seen: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        config = home / "sttd.toml"
        config.write_text(CONFIG.format(home=home))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sttd", "-c", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C comes to us, and we end it properly
            cwd=ROOT,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                self.console.print(f"  {escape(line.rstrip())}")
                continue
            self._show(event)
            self.seen.put(event)
        self.seen.put(None)

    def _show(self, event: dict[str, Any]) -> None:
        shape = SHOWN.get(event["event"])
        if shape is None:
            return
        fields = {k: escape(v) if isinstance(v, str) else v for k, v in event.items()}
        fields["rss_mib"] = round((event.get("rss_bytes") or 0) / (1 << 20))
        fields["duration_s"] = event.get("duration_s") or 0.0
        at = time.monotonic() - self.started
        self.console.print(f"[dim]{at:6.1f} s[/]  {shape.format(**fields)}", highlight=False)

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens, as it happens; raises DemoError when the daemon ends or time is up."""
        while True:
            left = self.started + DEADLINE_S - time.monotonic()
            try:
                event = self.seen.get(timeout=max(0.0, left))
            except queue.Empty:
                raise DemoError(f"not finished after {DEADLINE_S:.0f} s") from None
            if event is None:
                raise DemoError(f"the daemon ended with exit code {self.process.wait()}")
            yield event

    def ctl(self, *arguments: str) -> None:
        """Run sttctl as a user would, and show what it says."""
        self.console.print(f"\n[bold]$ sttctl {' '.join(arguments)}[/]")
        command = [sys.executable, "-m", "sttd.ctl", "--socket", f"ipc://{self.home}/control.sock"]
        done = subprocess.run([*command, *arguments], check=False, cwd=ROOT)
        if done.returncode:
            raise DemoError(f"sttctl {arguments[0]} ended with exit code {done.returncode}")

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(LEAVING_S)
        self.reader.join(LEAVING_S)
        return code

    def end(self) -> None:
        """Whatever happened before: nothing of it is left running."""
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(LEAVING_S / 4)


def choose(given: Sequence[Path]) -> list[Path]:
    """The recordings: those given, made up to eight; else shipped and real ones."""
    missing = [str(path) for path in given if not path.is_file()]
    if missing:
        raise DemoError(f"no such file: {', '.join(missing)}")
    real = [path for path in recordings(REAL) if path.stat().st_size <= SHORT]
    chosen = list(given) or real + recordings(SHIPPED)
    if len(chosen) < AT_LEAST:
        chosen += recordings(SHIPPED)
    if not chosen:
        raise DemoError(f"no recordings in {SHIPPED}: say which, make demo AUDIO='a.wav b.mp3'")
    return [chosen[n % len(chosen)] for n in range(max(AT_LEAST, len(chosen)))]


def recordings(folder: Path) -> list[Path]:
    """Those in a folder, if it is there."""
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in KINDS)


def drop(inbox: Path, paths: Sequence[Path]) -> None:
    """Drop them as a careful uploader does: under another name first, then renamed."""
    for path in paths:
        name, number = path.name, 2
        while (inbox / name).exists():
            name, number = f"{path.stem}-{number}{path.suffix}", number + 1
        part = inbox / f".{name}.part"
        shutil.copyfile(path, part)
        part.rename(inbox / name)


def show_transcripts(outbox: Path, console: Console) -> None:
    """Name and words of each."""
    console.print("\n[bold]Transcripts[/] (outbox/*.json; .txt, .srt and .vtt lie beside them)")
    for path in sorted(outbox.rglob("*.json")):
        transcript = json.loads(path.read_text())
        text = transcript["text"] or "(no speech was found)"
        console.print(f"[cyan]{escape(transcript['source']['name'])}[/]  {escape(text)}")


def demonstrate(home: Path, paths: Sequence[Path], console: Console) -> int:
    """The whole course; 0 when it went as it should."""
    demo = Demo(home, console)
    try:
        events = demo.events()
        next(e for e in events if e["event"] == "daemon.ready")
        drop(home / "state" / "inbox", paths)
        waiting, failed, recycled = len(paths), 0, 0
        while waiting:
            name = next(events)["event"]
            failed += name in {"job.failed", "inbox.rejected"}
            waiting -= name in {"job.succeeded", "job.failed", "inbox.rejected"}
            recycled += name == "worker.recycled"
        show_transcripts(home / "state" / "outbox", console)
        demo.ctl("status")
        demo.ctl("drain", "--wait")
        code = demo.stop()
    finally:
        demo.end()
    took = time.monotonic() - demo.started
    good = not failed and recycled > 0 and code == os.EX_OK
    console.print(
        f"\n{len(paths)} recordings, {failed} failed, {recycled} workers recycled, "
        f"daemon's exit code {code}, {took:.0f} s: "
        + ("[green]as it should be[/]" if good else "[red]not as it should be[/]")
    )
    return 0 if good else 1


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description="Show sttd at work on recordings.")
    parser.add_argument("audio", nargs="*", type=Path, help="recordings; else what is there")
    console = Console(soft_wrap=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        paths = choose(parser.parse_args().audio)
        # in /tmp whatever $TMPDIR says: the path of a unix socket has at most 107 bytes
        with tempfile.TemporaryDirectory(prefix="sttd-demo-", dir="/tmp") as home:
            return demonstrate(Path(home), paths, console)
    except DemoError as error:
        console.print(f"[red]demo: {escape(str(error))}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("demo: interrupted; the daemon is stopped and its files are removed")
        return 130


if __name__ == "__main__":
    sys.exit(main())
