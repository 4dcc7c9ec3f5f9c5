"""The daemon process: decides by core, records in the ledger; never imports an engine or decodes."""
