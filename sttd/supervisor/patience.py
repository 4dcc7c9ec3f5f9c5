"""How long `sttd run-once` waits, and what it tells meanwhile: nobody is there to mend anything.

A daemon waits out whatever an operator may end. Here somebody sits before the prompt, so what
waiting cannot mend ends the command, with the reason. Fed by events; knows no process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from sttd.log import Record

AWAY_MOST_S = 120.0  # a service may be restarted, and a lost network found again, meanwhile
HOPELESS = frozenset({"pool", "template"})  # troubles that end no wait, where no worker ever came


class Patience:
    """`over` is set when all jobs have ended, or when it is no use to wait; then `reason` says so.

    `troubles` answers with the sources of what the daemon is degraded for.
    """

    def __init__(
        self,
        jobs: int,
        *,
        tell: Callable[[str], None],
        troubles: Callable[[], Collection[str]],
        away_most_s: float = AWAY_MOST_S,
    ) -> None:
        self.over = asyncio.Event()
        self.reason = ""
        self.ended: dict[str, str] = {}  # job -> its message, "" where it has none
        self._jobs = jobs
        self._tell = tell
        self._troubles = troubles
        self._away_most_s = away_most_s
        self._away: asyncio.TimerHandle | None = None
        self._staffed = False
        self._died_of = ""

    def heard(self, name: str, record: Record) -> None:
        """Take an event of the log."""
        match name:
            case "job.succeeded" | "job.failed":
                self.ended[str(record["job"])] = str(record.get("message", ""))
                if len(self.ended) == self._jobs:
                    self.over.set()
            case "worker.ready":
                self._staffed = True
            case "worker.exited" if record["reason"] == "crashed":
                self._died_of = _death(record)
            case "engine.changed":
                self._engine(str(record["state"]), str(record["detail"]))
            case "daemon.degraded":
                self._degraded(record["reasons"])
            case _:
                pass

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._away is not None:
            self._away.cancel()
            self._away = None

    def _engine(self, state: str, detail: str) -> None:
        self._say(f"the engine is {state}" + (f": {detail}" if detail else ""))
        if state == "unauthorized":
            self._give_up(f"not transcribed, the engine is unauthorized: {detail}")
        if state != "unavailable":
            self.close()
        elif self._away is None:
            why = f"not transcribed, unavailable for {self._away_most_s:.0f} s: {detail}"
            loop = asyncio.get_running_loop()
            self._away = loop.call_later(self._away_most_s, self._give_up, why)

    def _degraded(self, reasons: object) -> None:
        lines = reasons if isinstance(reasons, list | tuple) else [reasons]
        for line in lines:
            self._say(f"{line}")
        if not self._staffed and HOPELESS.intersection(self._troubles()):
            self._give_up(f"not transcribed, no worker starts: {self._died_of or lines[-1]}")

    def _say(self, line: str) -> None:
        if not self.over.is_set():
            self._tell(f"sttd: {line}")

    def _give_up(self, reason: str) -> None:
        if not self.over.is_set():
            self.reason = reason
            self.over.set()


def _death(record: Record) -> str:
    """How a worker ended, in a few words."""
    if record.get("message"):
        return str(record["message"])
    if record.get("signal") is not None:
        return f"killed by signal {record['signal']}"
    return f"exit code {record.get('exit_code')}"
