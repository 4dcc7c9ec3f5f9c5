"""A bell that any number of coroutines wait for. Knows nothing of why it is rung."""

from __future__ import annotations

import asyncio


class Bell:
    """Rings for everybody who waits. Take a ticket first, look, then wait on the ticket."""

    def __init__(self) -> None:
        self._tickets: list[asyncio.Future[None]] = []

    def ticket(self) -> asyncio.Future[None]:
        """Resolved at the next ring."""
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets.append(ticket)
        return ticket

    def ring(self) -> None:
        """Wake all who hold a ticket."""
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            if not ticket.done():
                ticket.set_result(None)

    async def wait(self, ticket: asyncio.Future[None], timeout_s: float) -> None:
        """Until it rings or the time is over."""
        try:
            await asyncio.wait_for(ticket, timeout_s)
        except TimeoutError:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
