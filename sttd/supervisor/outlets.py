"""Where events go beside the log and the socket: the ledger, the notifier, the metrics.

Composes only. What `[metrics]` needs is imported where it is set, for it costs memory.
"""

from __future__ import annotations

import importlib.util
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from sttd.config import Settings
from sttd.log import Log
from sttd.supervisor.keeping import keeper
from sttd.supervisor.ledger import Ledger
from sttd.supervisor.loop import Loop
from sttd.supervisor.notifying import Notifications

if TYPE_CHECKING:
    from sttd.supervisor.metrics import Metrics


class MissingPackageError(Exception):
    """The configuration asks for what is not installed; the message has key and remedy."""


class Outlets:
    """One for the daemon's life: listens from `__aenter__` on, serves from `serve` on."""

    def __init__(self, settings: Settings, log: Log, ledger: Ledger, *, serving: bool) -> None:
        self._settings = settings
        self._log = log
        self._ledger = ledger
        self._wanted = serving and bool(settings.metrics.listen)
        self._made = AsyncExitStack()
        self._metrics: Metrics | None = None

    async def __aenter__(self) -> Self:
        """Raises MissingPackageError."""
        if self._wanted and importlib.util.find_spec("prometheus_client") is None:
            raise MissingPackageError(
                "metrics.listen needs the package prometheus-client: "
                "pip install 'sttd[metrics]', or set it to \"\""
            )
        self._log.listen(keeper(self._ledger))
        notifications = Notifications(self._settings, self._log)
        self.configure = notifications.configure
        await self._made.enter_async_context(notifications)
        if self._wanted:
            from sttd.supervisor.metrics import Metrics  # noqa: PLC0415 (it costs memory)

            self._metrics = Metrics(self._log, self._ledger, lambda: notifications.dropped)
            await self._made.enter_async_context(self._metrics)
        return self

    async def serve(self, loop: Loop) -> None:
        """Open the endpoint where one is wanted; raises OSError when that cannot be."""
        if self._metrics is not None:
            await self._metrics.serve(loop, self._settings.metrics.listen)

    async def __aexit__(self, *error: object) -> None:
        """Tell what is left to be told."""
        await self._made.aclose()
