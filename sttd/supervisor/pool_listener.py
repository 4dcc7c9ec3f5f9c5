"""What the pool tells of its processes, and nothing else: a protocol without behaviour."""

from __future__ import annotations

from typing import Protocol

from sttd.wire.messages import FromWorker, TemplateReady


class PoolListener(Protocol):
    """Whoever turns what the pool sees into events."""

    def template_ready(self, epoch: int, news: TemplateReady) -> None:
        """Workers can be forked."""

    def template_exited(self, epoch: int, message: str, *, broken: bool, usable: bool) -> None:
        """A template is gone; `broken`: it said why; `usable`: an older one still forks."""

    def worker_forked(self, worker: str, pid: int) -> None:
        """The process exists."""

    def worker_said(self, worker: str, news: FromWorker) -> None:
        """A message came."""

    def worker_starved(self, worker: str) -> None:
        """The kernel killed it at its group's limit; `worker_exited` follows."""

    def worker_exited(
        self, worker: str, code: int | None, number: int | None, message: str
    ) -> None:
        """The process is gone and reaped, or never came to be (neither code nor number)."""

    def output(self, line: str, worker: str | None = None) -> None:
        """A worker printed a line, or (None) a template or a decoder did."""
