"""sttd turns recordings into transcripts on a server. See docs/architecture.md for the map."""

__version__ = "0.1.0"
