"""What the daemon decides: pure functions of state and event; no I/O, no clock, no log."""
