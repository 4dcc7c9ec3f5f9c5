"""The processes that do the work: template, worker, decoder. No asyncio, no SQLite, no ZeroMQ."""
