"""The daemon process: decides by core, records in the ledger; imports no engine, decodes nothing."""
