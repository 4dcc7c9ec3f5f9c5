"""sttctl: speaks the wire protocol to a running daemon and shows what it says. Decides nothing."""
