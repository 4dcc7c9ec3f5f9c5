"""The daemon process: decides by core, records in the ledger. It imports no engine."""
