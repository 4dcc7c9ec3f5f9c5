"""Where events go beside the log and the socket: the ledger, the notifier, the metrics.

Composes only. What `[metrics]` needs is imported where it is set, for it costs memory.
"""

from __future__ import annotations

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
        metrics = _metrics() if self._wanted else None
        self._log.listen(keeper(self._ledger))
        notifications = Notifications(self._settings, self._log)
        self.configure = notifications.configure
        await self._made.enter_async_context(notifications)
        if metrics is not None:
            self._metrics = metrics(self._log, self._ledger, lambda: notifications.dropped)
            await self._made.enter_async_context(self._metrics)
        return self

    async def serve(self, loop: Loop) -> None:
        """Open the endpoint where one is wanted; raises OSError when that cannot be."""
        if self._metrics is not None:
            await self._metrics.serve(loop, self._settings.metrics.listen)

    async def __aexit__(self, *error: object) -> None:
        """Tell what is left to be told."""
        await self._made.aclose()


def _metrics() -> type[Metrics]:
    """What serves the figures, imported only now."""
    try:
        import prometheus_client  # noqa: F401, PLC0415 (it costs memory)
    except ImportError as error:
        raise MissingPackageError(
            "metrics.listen needs the package prometheus-client: pip install 'sttd[metrics]', "
            'or set it to ""'
        ) from error
    from sttd.supervisor.metrics import Metrics  # noqa: PLC0415 (as above)

    return Metrics
