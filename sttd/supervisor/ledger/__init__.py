"""The durable record of jobs: SQLite behind one thread, every answer after its commit.

It records and answers; it decides nothing (core does), touches no recording (inbox and outbox do)
and is the only part that knows SQL. `facade` is what the daemon uses; behind it `thread` gathers
what is asked, `group` commits it, `intake`, `moves`, `queries` and `upkeep` are the operations, and
ledger.sql is all that is said to SQLite.
"""

from sttd.supervisor.ledger.ballast import Ballast
from sttd.supervisor.ledger.errors import LedgerBroken, LedgerCorrupt, LedgerError, LedgerFull
from sttd.supervisor.ledger.facade import Ledger

__all__ = ["Ballast", "Ledger", "LedgerBroken", "LedgerCorrupt", "LedgerError", "LedgerFull"]
