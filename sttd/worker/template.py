"""The template: imports the engine (or the decoder), loads the model, and forks on request.

Single-threaded for ever: a fork with more than one thread is refused and the threads are named.
It never runs a job, opens no network connection and holds no credentials. Started by the
supervisor as `python -m sttd.worker.template FD`.

A child is forked twice, so that it becomes the supervisor's own child (the supervisor is a
subreaper): exit statuses are told truly, and a template's death disturbs no running worker.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import signal
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable

from sttd import linux
from sttd.wire.messages import (
    Fork,
    Forked,
    ForkFailed,
    Load,
    TemplateBroken,
    TemplateReady,
    ToTemplate,
    Walls,
)
from sttd.worker.channel import Channel
from sttd.worker.rehearsal import rehearse_decoding, rehearse_job
from sttd.worker.tidy import rss_bytes

PID = struct.Struct("=i")
EAGER_LOOKS = 20_000  # some 10 ms, for the end of the intermediate, which takes about one
PATIENT_S = 0.005  # between looks from then on: the machine is busy, or was frozen just here


Adopt = Callable[[], None]


class Product:
    """What a template makes children of: ready to be forked, told by `load`.

    `run(fork, descriptors, adopt)` is the child's life. It calls `adopt` once, before anything
    that must not outlive the supervisor: it returns when the child is the supervisor's own, which
    takes as long as the end of the process between them, so that what is only setting up goes
    before it.
    """

    def __init__(
        self,
        run: Callable[[Fork, list[int], Adopt], None],
        *,
        name: str,
        version: str,
        start: str = "fork",
        walls: Walls | None = None,
    ) -> None:
        self.run = run
        self.name = name
        self.version = version
        self.start = start
        self.walls = walls


def load(order: Load) -> Product:
    """Import what children are to run. Raises whatever the engine raises, in one line if it can."""
    if order.role == "decoder":
        from sttd.worker import companion, probing  # noqa: PLC0415 (each template imports only its own)

        rehearse_decoding()
        return Product(
            companion.run, name="decoder", version=companion.VERSION, walls=probing.standing()
        )
    from sttd.engines.loading import load as load_engine  # noqa: PLC0415
    from sttd.worker import main  # noqa: PLC0415

    engine_class = load_engine(order.engine)
    start = getattr(engine_class, "start", "fork")
    if start == "spawn":
        version = str(getattr(engine_class, "version", ""))  # only a built one may know it
        return Product(main.respawn, name=engine_class.name, version=version, start=start)
    engine = engine_class(order.options)
    rehearse_job()

    def run(fork: Fork, fds: list[int], adopt: Adopt) -> None:
        main.run(engine, fork, fds, adopt, trim_threshold=order.trim_threshold)

    return Product(run, name=engine.name, version=str(engine.version), start=start)


def serve(channel: Channel[ToTemplate]) -> None:
    """Load, then fork on request until the supervisor is gone."""
    order, _ = channel.recv()
    assert isinstance(order, Load)
    if os.getppid() != order.supervisor:  # it died before `die_with_parent`: load no model
        return
    linux.set_name(f"sttd-{order.role[:6]}-t")
    try:
        product = load(order)
    except Exception as error:  # noqa: BLE001 (an engine may raise anything; the operator is told)
        channel.send(TemplateBroken(_one_line(error)))
        return
    gc.collect()
    gc.freeze()  # children then collect nothing of ours, and copy no pages for it
    channel.send(
        TemplateReady(
            os.getpid(), product.name, product.version, product.start, rss_bytes(), product.walls
        )
    )
    while True:
        request, fds = channel.recv()
        if isinstance(request, Fork):
            _answer(channel, product, order, request, fds)


def _answer(
    channel: Channel[ToTemplate],
    product: Product,
    order: Load,
    request: Fork,
    fds: list[int],
) -> None:
    threads = linux.thread_names()
    if len(threads) > 1:
        names = ", ".join(threads[1:])
        message = f"the engine started threads before the fork ({names}): set start = 'spawn'"
        channel.send(ForkFailed(request.worker, request.generation, message))
    else:
        try:
            pid = _fork_twice(channel, product, order, request, fds)
        except OSError as error:
            channel.send(ForkFailed(request.worker, request.generation, _one_line(error)))
        else:
            channel.send(Forked(request.worker, request.generation, pid))
    for fd in fds:
        os.close(fd)


def _fork_twice(
    channel: Channel[ToTemplate],
    product: Product,
    order: Load,
    request: Fork,
    fds: list[int],
) -> int:
    """The grandchild's pid. In the grandchild this never returns."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        middle = os.getpid()
        try:
            child = os.fork()
        except OSError:
            os._exit(os.EX_OSERR)  # or there would be two templates; the other one tells it
        if child:
            os.write(writing, PID.pack(child))
            os._exit(0)
        os.close(reading)
        os.close(writing)
        _become(channel, product, order, request, fds, middle)
    os.close(writing)
    os.waitpid(middle, 0)
    answer = os.read(reading, PID.size)
    os.close(reading)
    if len(answer) < PID.size:
        raise OSError("the kernel refused a process")
    return int(PID.unpack(answer)[0])


def _become(
    channel: Channel[ToTemplate],
    product: Product,
    order: Load,
    request: Fork,
    fds: list[int],
    middle: int,
) -> None:
    """In the child: live as what the template makes. Never returns."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        channel.sock.close()
        linux.set_name(f"sttd-{request.worker}" if order.role == "engine" else "sttd-decoder")
        product.run(request, fds, lambda: _be_adopted(middle, order.supervisor))
    except BaseException as error:  # noqa: BLE001 (nothing may unwind into the template's loop)
        sys.stderr.write(f"{request.worker}: {_one_line(error)}\n")
        sys.stderr.flush()
        os._exit(70)  # EX_SOFTWARE
    os._exit(0)


def _be_adopted(parent: int, supervisor: int) -> None:
    """Wait until the process between us and the template has ended; die with the supervisor.

    Without a deadline: nothing can keep that process but the kernel, and to whoever is frozen
    with it for a while it would seem late.
    """
    looks = 0
    while os.getppid() == parent:
        looks += 1
        if looks < EAGER_LOOKS:
            os.sched_yield()
        else:
            time.sleep(PATIENT_S)
    linux.die_with_parent()
    if os.getppid() != supervisor:  # it has died, so that somebody else adopted us
        os._exit(0)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    known = type(error).__module__.startswith("sttd.")
    return text if known and text else f"{type(error).__name__}: {text}"


def _leave_the_terminal() -> None:
    """As a new session would, which cannot be had (see `templates`).

    A read of it by one would stop the whole group, and a decoder that was taken over could type.
    """
    with contextlib.suppress(OSError):  # there is none
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            fcntl.ioctl(terminal, termios.TIOCNOTTY)
        finally:
            os.close(terminal)


def main() -> None:
    """Entry point; the argument is the descriptor of the socket to the supervisor."""
    linux.die_with_parent()
    _leave_the_terminal()
    # Ctrl-C is the supervisor's business; SIGIO is ignored there and must not be here
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(Channel(sock, ToTemplate))  # until the supervisor lets us go
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
