"""Load an engine's class as a template would, in a process that may come to harm by it.

Importing an engine may print, start threads, end the process or hang: whoever only wants to know
whether it can be loaded asks here. It builds no engine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

from sttd.engines.loading import EngineLoadError, load

__all__ = ["refusal"]

LIMIT_S = 60.0  # frameworks for machine learning take several seconds
DEVNULL = subprocess.DEVNULL
REFUSED = 1


def refusal(name: str, limit_s: float = LIMIT_S) -> str:
    """Why no worker could load the engine `name`, in one line; "" when it can be loaded."""
    with tempfile.TemporaryFile() as told:
        try:
            done = subprocess.run(
                [sys.executable, "-m", __spec__.name, name, str(told.fileno())],
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=DEVNULL,
                pass_fds=(told.fileno(),),
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the engine {name} cannot be imported: it takes more than {limit_s:.0f} s"
        if done.returncode == 0:
            return ""
        told.seek(0)
        why = told.read().decode(errors="replace")
    if done.returncode == REFUSED and why:
        return why
    if done.returncode < 0:
        how = f"it is killed by {signal.Signals(-done.returncode).name}"
    else:
        how = f"it ends the process with exit code {done.returncode}"
    return f"the engine {name} cannot be imported: {how}"


def main(name: str, told: int) -> None:
    """The child: leaves by exit code, at once, whatever threads an import has started."""
    try:
        load(name)
    except EngineLoadError as error:
        os.write(told, str(error).encode(errors="backslashreplace"))
        os._exit(REFUSED)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
