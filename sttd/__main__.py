"""`python -m sttd` is `sttd`."""

from sttd.cli import main

main()
