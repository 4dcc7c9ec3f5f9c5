"""The real daemon as a process, and the real sttctl, for acceptance tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


NO_ANSWER = 4  # sttctl's exit code
ASKING = (
    "status",
    "jobs",
    "show",
    "why",
    "workers",
    "events",
    "memory",
)  # verbs that change nothing


class Daemon:
    """An sttd on a state directory of its own. Sections override the quick defaults of tests."""

    def __init__(self, home: Path, **sections: Mapping[str, object]) -> None:
        self.home = home
        self.state = home / "state"
        self.endpoint = f"ipc://{home}/c.sock"
        self.config = home / "sttd.toml"
        self.log_path = home / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.under: tuple[str, ...] = ()  # a program that runs it, with its arguments
        self.configure(**sections)

    def configure(self, **sections: Mapping[str, object]) -> None:
        """Write the configuration file anew."""
        base: dict[str, dict[str, object]] = {
            "inbox": {"settle": 0},
            "control": {
                "endpoint": self.endpoint,
                "events": f"ipc://{self.home}/e.sock",
                "group": "",
            },
            "limits": {"min_free_disk": 0},
            "retry": {"backoff": "50ms"},
            "recycle": {"max_requests_jitter": 0, "grace": "2s"},
            "engine": {"name": "drill"},
        }
        for name, values in sections.items():
            base.setdefault(name, {}).update(values)
        lines = [f'state_dir = "{self.state}"']
        for name, section in base.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {toml(value)}" for key, value in section.items()]
        self.config.write_text("\n".join(lines) + "\n")

    # -- life ----------------------------------------------------------------------------------
    def start(self, *, wait: bool = True, env: Mapping[str, str] | None = None) -> None:
        """Start it; with `wait`, until submissions are accepted."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.under, PYTHON, "-m", "sttd", "-c", str(self.config)],
                stdout=log,
                stderr=log,
                env=environ,
                stdin=subprocess.DEVNULL,
            )
        if wait:
            pid = self.process.pid
            eventually(
                lambda: (
                    self.process is not None
                    and (
                        self.process.poll() is not None
                        or any(e["pid"] == pid for e in self.events("daemon.ready"))
                    )
                ),
                "the daemon is ready",
            )
            assert self.process.poll() is None, self.log_path.read_text()[-3000:]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def clean_up(self) -> None:
        """End it whatever its state."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # -- looking -------------------------------------------------------------------------------
    def events(self, *names: str) -> list[dict[str, Any]]:
        """Events logged so far, of these names."""
        found = []
        if not self.log_path.exists():
            return []
        for line in self.log_path.read_text(errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):
                record = json.loads(line)
                if not names or record["event"] in names:
                    found.append(record)
        return found

    def until(self, name: str, count: int = 1, deadline_s: float = 60.0, **fields: object) -> Any:
        """Wait for the `count`th event of this name with these fields."""

        def look() -> Any:
            found = [e for e in self.events(name) if all(e.get(k) == v for k, v in fields.items())]
            return found[count - 1] if len(found) >= count else None

        return eventually(look, f"{name} {fields} x{count}", deadline_s)

    def ctl(self, *args: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run sttctl."""
        return subprocess.run(
            [PYTHON, "-m", "sttd.ctl", "--socket", self.endpoint, *args],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def json(self, *args: str) -> Any:
        """The JSON that sttctl prints; asked again when the daemon was too busy to answer."""

        def answered() -> subprocess.CompletedProcess[str] | None:
            done = self.ctl(*args, "--json")
            alive = self.process is not None and self.process.poll() is None
            busy = done.returncode == NO_ANSWER and "no answer" in done.stderr and alive
            return None if busy and args[0] in ASKING else done

        done = eventually(answered, f"an answer to {args}")
        assert done is not None
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def status(self) -> Any:
        return self.json("status")

    def drop(self, name: str, source: Path, options: object = None) -> Path:
        """Drop a recording as a careful uploader does: sidecar first, by rename."""
        target = self.state / "inbox" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if options is not None:
            part = target.with_name(f".{target.name}.sidecar")
            part.write_text(json.dumps(options))
            part.rename(target.with_name(target.name + ".json"))
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(source.read_bytes())
        part.rename(target)
        return target

    def transcript(self, name: str, deadline_s: float = 60.0) -> Any:
        """The manifest outbox/<name>.json, once it is there."""
        path = self.state / "outbox" / f"{name}.json"
        try:
            eventually(path.exists, f"{path} appears", deadline_s)
        except AssertionError as error:  # the log goes with the daemon's folder
            raise AssertionError(f"{error}\n{self.log_path.read_text()[-6000:]}") from None
        return json.loads(path.read_text())

    def leftovers(self) -> list[str]:
        """Files that should not be there when all jobs are at rest."""
        places = (self.state / "spool", self.state / "outbox" / ".tmp")
        # os.walk passes over folders that vanish meanwhile
        return [
            f"{top}/{name}"
            for place in places
            for top, _, names in os.walk(place)
            for name in names
        ]


@contextmanager
def daemon(**sections: Mapping[str, object]) -> Iterator[Daemon]:
    """A daemon that is not yet started, in a folder with a short path (sockets need one)."""
    with tempfile.TemporaryDirectory(prefix="sttd-t") as home:
        one = Daemon(Path(home), **sections)
        try:
            yield one
        finally:
            one.clean_up()
