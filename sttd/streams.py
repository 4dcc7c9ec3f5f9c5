"""The three standard streams as a command line can rely on them: there, and fit for any name.

Names of files are anything, and a locale may know nothing but ASCII; a shell may have closed
what it does not want to see (`sttctl jobs >&-`).
"""

from __future__ import annotations

import errno
import io
import os
import sys

# A write that fails for one of these is told in a line; any other failure of the system has a place
# in the program, and shows it.
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF})


def settle() -> None:
    """What is closed leads nowhere, and what cannot be encoded is written as an escape."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            # open to the end, as the real ones are
            setattr(sys, name, open(null, mode, closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def give_up_stdout() -> None:
    """Nothing more can be written: the interpreter shall not try again when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
