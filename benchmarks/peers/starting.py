"""How long multiprocessing needs for a process with the Speech SDK loaded: `starting METHOD`."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.line import Line


def report_ready(pipe: Any) -> None:
    """In the new process: load the SDK if it is not there yet, and say so."""
    work.load_sdk()
    pipe.send(os.getpid())


def main() -> None:
    """Serve `start`."""
    line = Line()
    method = sys.argv[1]
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([work.SDK, "benchmarks.peers.starting"])
    if method == "fork":
        work.load_sdk()

    def start() -> float:
        reading, writing = context.Pipe(duplex=False)
        began = time.perf_counter()
        process = context.Process(target=report_ready, args=(writing,))
        process.start()
        reading.recv()
        took = time.perf_counter() - began
        process.join()
        return took

    start()
    line.serve({"start": start}, "azure-cognitiveservices-speech")
