"""What the processes say to each other: messages to bytes and back; pure, no I/O, no policy."""
