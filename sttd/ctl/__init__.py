"""sttctl: what an operator types. Speaks to the daemon through `sttd.client` alone."""
