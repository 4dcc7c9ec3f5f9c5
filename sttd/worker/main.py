"""A worker: one engine, one job at a time, until told to leave or killed.

It reports and obeys; it judges neither its memory nor what becomes of a failed job. It writes
only into its job's spool folder and staging folder. It ends by `os._exit`: the Speech SDK aborts
an interpreter that ends with a session alive.
"""

from __future__ import annotations

import faulthandler
import io
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable

from sttd.engines import Engine
from sttd.wire.messages import Fork, Inspect, Inspected, Load, Ready, Run, Stop, ToWorker
from sttd.worker import leaving
from sttd.worker.channel import Channel
from sttd.worker.inspecting import Inspector
from sttd.worker.job import Gossip, JobRunner
from sttd.worker.tidy import Tidier, rss_bytes

EX_DECODER = 71  # EX_OSERR: the companion is gone, so no job can be done here


def run(
    engine: Engine, fork: Fork, fds: list[int], adopt: Callable[[], None], *, trim_threshold: int
) -> None:
    """Live a worker's life on its descriptors. Returns when it is time to exit with 0.

    `adopt` returns when this process will end with the supervisor (see `template.Product`).
    """
    control = Channel[ToWorker](socket.socket(fileno=fds[0]), ToWorker)
    decoder = socket.socket(fileno=fds[1])
    faulthandler.register(signal.SIGUSR1, file=fds[2], all_threads=True)
    _print_to(fds[3])
    failures = _watch_callbacks()
    gossip = Gossip(control, fork.generation)
    adopt()
    leaving.heed()
    try:
        begin = getattr(engine, "begin_worker", None)
        if begin is not None:
            begin()
        runner = JobRunner(engine, gossip, decoder, Tidier(trim_threshold), failures)
        try:
            control.send(Ready(fork.worker, fork.generation, os.getpid(), rss_bytes()))
            _serve(control, decoder, runner, Inspector(engine))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # the supervisor is gone: nobody is left to tell
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except leaving.Leaving:
        pass
    _end(engine)  # like `begin`, it may lose a connection of its own: that is told


def _serve(
    control: Channel[ToWorker], decoder: socket.socket, runner: JobRunner, inspector: Inspector
) -> None:
    waiting = select.poll()
    waiting.register(control.sock, select.POLLIN)
    waiting.register(decoder, select.POLLIN)  # it speaks only while a job runs, or by dying
    while True:
        ready = [fd for fd, _ in waiting.poll()]
        if decoder.fileno() in ready:
            os._exit(EX_DECODER)
        message, _ = control.recv()
        match message:
            case Run():
                inspector.jobs += 1
                if not runner.run(message):
                    os._exit(EX_DECODER)
            case Inspect(serial, deep):
                control.send(Inspected(serial, inspector.look(deep=deep)))
            case Stop():
                return
            case Load():
                continue


def _end(engine: Engine) -> None:
    end = getattr(engine, "end_worker", None)
    if end is not None:
        end()
    sys.stdout.flush()
    sys.stderr.flush()


def _print_to(fd: int) -> None:
    """Whatever is printed here, by native libraries too, is this worker's, line by line."""
    for output in (sys.stdout, sys.stderr):
        os.dup2(fd, output.fileno())
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(line_buffering=True)
    os.close(fd)


def _watch_callbacks() -> list[str]:
    """Collect exceptions nobody can catch: in ctypes callbacks, finalizers and threads.

    An exception inside a native library's callback is printed and dropped by Python; the attempt
    during which it happened must not pass for a success.
    """
    failures: list[str] = []

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        # Python 3.13 names a ctypes callback in the message alone
        name = getattr(args.object, "__qualname__", None) or args.err_msg or repr(args.object)
        failures.append(f"{type(args.exc_value).__name__} in {name}: {args.exc_value}"[:500])

    def in_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "a thread"
        failures.append(f"{args.exc_type.__name__} in {name}: {args.exc_value}"[:500])

    sys.unraisablehook = unraisable
    threading.excepthook = in_thread
    return failures


# -- engines that cannot be forked -------------------------------------------------------------
def respawn(fork: Fork, fds: list[int], adopt: Callable[[], None]) -> None:
    """In a fresh child of the template: become a new interpreter with the same descriptors."""
    adopt()
    for fd in fds:
        os.set_inheritable(fd, True)
    argv = [sys.executable, "-m", "sttd.worker.main", fork.worker, str(fork.generation)]
    os.execv(sys.executable, [*argv, *map(str, fds)])


def main() -> None:
    """Entry point of a spawned worker: its first message is Load."""
    from sttd import linux  # noqa: PLC0415 (only here)
    from sttd.engines.loading import load  # noqa: PLC0415

    linux.die_with_parent()
    fork = Fork(sys.argv[1], int(sys.argv[2]))
    fds = [int(fd) for fd in sys.argv[3:]]
    for fd in fds:
        os.set_inheritable(fd, False)
    order, _ = Channel[ToWorker](socket.socket(fileno=os.dup(fds[0])), ToWorker).recv()
    assert isinstance(order, Load)
    if os.getppid() != order.supervisor:
        os._exit(0)
    linux.set_name(f"sttd-{fork.worker}")
    engine = load(order.engine)(order.options)
    run(engine, fork, fds, lambda: None, trim_threshold=order.trim_threshold)
    os._exit(0)


if __name__ == "__main__":
    main()
