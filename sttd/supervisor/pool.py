"""The pool's processes: templates, workers, decoders; channels, signals, reaping.

Mechanism only: it forks, sends, signals and reaps what it is told to, and reports what it sees.
Which worker lives, and why, is decided in `core`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping

import msgspec

from sttd import linux
from sttd.core.recycling import RecyclePolicy
from sttd.credentials import without_credentials
from sttd.supervisor import descriptors
from sttd.supervisor.cgroups import Cgroups
from sttd.supervisor.child import Child, Strays
from sttd.supervisor.companions import Companions
from sttd.supervisor.examine import Thread, stacks, threads
from sttd.supervisor.link import Link
from sttd.supervisor.pool_listener import PoolListener
from sttd.supervisor.templates import Output, Template
from sttd.supervisor.worker import Worker
from sttd.wire.messages import (
    Done,
    Failed,
    Forked,
    ForkFailed,
    FromWorker,
    Inspect,
    Load,
    Ready,
    Run,
    TemplateReady,
    Walls,
)

DUMP_S = 5.0  # for the kernel to write a core dump of a worker: hundreds of MiB
LINGER_S = 1.0  # between a worker's end of file and its end; flushing takes milliseconds
DECODER = msgspec.msgpack.Decoder(FromWorker)


class Pool:
    """All processes of the daemon.

    `engine_order()` gives what an engine template is to load and in which environment.
    """

    def __init__(
        self,
        engine_order: Callable[[], tuple[Load, Mapping[str, str]]],
        listener: PoolListener,
        cgroups: Cgroups | None = None,
    ) -> None:
        self._cgroups = cgroups or Cgroups(None, "none were asked for", RecyclePolicy)
        self._engine_order = engine_order
        self._listener = listener
        self._engine: Template | None = None  # the one that forks
        self._coming: Template | None = None  # the one that will, once it is ready
        self._decoders: Template | None = None
        self._templates: set[Template] = set()
        self._workers: dict[str, Worker] = {}
        self._companions = Companions(self._look_for_quiet)
        self._closing = False
        self._quiet = asyncio.Event()
        self.strays = Strays()

    # -- templates -----------------------------------------------------------------------------
    def start_templates(self, epoch: int, *, renew: bool) -> None:
        """Start whichever template is missing; `renew`: an engine template in any case."""
        if self._decoders is None:
            decoders = Load(role="decoder", supervisor=os.getpid())
            self._decoders = self._start(decoders, epoch, without_credentials(os.environ))
        if self._coming is not None and renew:
            self._coming.kill()  # what it loads is out of date; nobody would ever ask it
        serving = self._engine or self._coming
        if serving is None or renew:
            order, environment = self._engine_order()
            self._coming = self._start(order, epoch, environment)
        else:
            serving.epoch = epoch

    def _start(self, order: Load, epoch: int, environment: Mapping[str, str]) -> Template:
        template = Template(order, epoch, self, self._listener.output, environment)
        self._templates.add(template)
        self._cgroups.shelter(template.pid)
        return template

    def template_ready(self, template: Template, _news: TemplateReady) -> None:
        """A template can fork; it is announced when both the engine's and the decoders' can."""
        if template is self._coming:
            if self._engine is not None:
                self._engine.stop()
            self._engine, self._coming = template, None
        elif template is not self._decoders:
            return  # another has taken its place
        if self._can_fork():
            assert self._engine is not None
            assert self._engine.ready is not None
            self._listener.template_ready(self._engine.epoch, self._engine.ready)

    def template_gone(self, template: Template, message: str, *, broken: bool) -> None:
        """A template ended: what it had been asked for and did not bring will never come."""
        self._templates.discard(template)
        self._look_for_quiet()
        serving = template in (self._engine, self._coming, self._decoders)
        if template is self._engine:
            self._engine = None
        if template is self._coming:
            self._coming = None
        if template is self._decoders:
            self._decoders = None
            message = f"decoders: {message}"
        for worker in [w for w in self._workers.values() if w.template is template]:
            if worker.child is None:
                self._forget(worker, None, None, message)
        if serving and not self._closing:
            usable = self._can_fork()
            self._listener.template_exited(template.epoch, message, broken=broken, usable=usable)

    def _can_fork(self) -> bool:
        engine, decoders = self._engine, self._decoders
        return bool(engine and engine.ready and decoders and decoders.ready)

    @property
    def walls(self) -> Walls | None:
        """What stands around decoders; None until their template has tried."""
        return self._decoders.ready.walls if self._decoders and self._decoders.ready else None

    # -- workers -------------------------------------------------------------------------------
    def fork(self, name: str, generation: int) -> None:
        """Bring a worker and its decoder into being; a refusal is reported as an exit."""
        if self._engine is None or self._decoders is None:
            self._listener.worker_exited(name, None, None, "the template is not ready")
            return
        try:
            self._ask_for(name, generation, self._engine)
        except OSError as error:  # nobody listens, or there are no descriptors left
            why = f"it could not be asked for: {error}"
            if name in self._workers:
                self._forget(self._workers[name], None, None, why)
            else:
                self._listener.worker_exited(name, None, None, why)

    def _ask_for(self, name: str, generation: int, engine: Template) -> None:
        descriptors.require(sum(1 for each in self._workers.values() if each.child is None))
        worker = Worker(name, generation, engine, *self._companions.take())
        self._workers[name] = worker
        ours, control = socket.socketpair()
        with control:
            worker.link = Link(
                ours,
                DECODER,
                lambda news: self._heard(worker, news),
                lambda why: self._ended(worker, why),
            )
            reading, writing = os.pipe()
            try:
                worker.printed = Output(reading, lambda line: self._listener.output(line, name))
                fds = [control.fileno(), worker.companion.pcm.fileno(), worker.stacks, writing]
                engine.fork(name, generation, fds)
            finally:
                os.close(writing)
        if engine.ready and engine.ready.start == "spawn":
            worker.link.send(engine.order)

    def _fork_decoder(self, worker: Worker) -> None:
        """Now that the worker exists: beside it, both would only come later.

        Where that fails its socket is closed, the worker sees it and leaves.
        """
        decoder, worker.decoder = worker.decoder, None
        if decoder is None:
            return
        with decoder, contextlib.suppress(OSError):
            if self._decoders is not None:
                self._decoders.fork(worker.name, worker.generation, [decoder.fileno()])

    def forked(self, template: Template, news: Forked) -> None:
        """A child exists: hold it."""
        worker = self._workers.get(news.worker)
        if template.order.role == "decoder":
            if worker is None or worker.generation != news.generation:
                return  # its worker is already gone; it sees end of file and follows
            with contextlib.suppress(ProcessLookupError):
                self._companions.hold(worker.companion, news.pid)
                self._cgroups.enter(worker.name, news.pid)
            return
        if worker is not None:
            self._hold(worker, news.pid)

    def fork_failed(self, _template: Template, news: ForkFailed) -> None:
        """No child came of it."""
        worker = self._workers.get(news.worker)
        if worker is not None and worker.child is None:
            self._forget(worker, None, None, news.message)

    def send(self, name: str, message: Run | Inspect) -> None:
        """Hand a job, or a question, to a worker."""
        worker = self._workers.get(name)
        if worker is not None and worker.link is not None:
            if isinstance(message, Run):
                worker.busy = True
                self._cgroups.busy(name)
            worker.link.send(message)

    def terminate(self, name: str) -> None:
        """SIGTERM: leave in peace."""
        self._signal(name, signal.SIGTERM)

    def kill(self, name: str) -> None:
        """SIGKILL."""
        if (worker := self._workers.get(name)) is not None:
            worker.condemned = True
        self._signal(name, signal.SIGKILL)

    def abort(self, name: str) -> None:
        """SIGABRT, for a core dump; SIGKILL to whoever is still there afterwards."""
        self._signal(name, signal.SIGABRT)
        asyncio.get_running_loop().call_later(DUMP_S, self._signal, name, signal.SIGKILL)

    async def examine(self, name: str) -> tuple[str, tuple[Thread, ...]]:
        """Python's stacks and the kernel's view of a worker's threads; takes up to 0.2 s."""
        worker = self._workers.get(name)
        if worker is None or worker.child is None:
            return "", ()
        found = threads(worker.child.pid)
        fd = os.dup(worker.stacks)  # it may be reaped while we wait
        try:
            worker.child.send_signal(signal.SIGUSR1)
            return await stacks(fd), found
        finally:
            os.close(fd)

    async def close(self, timeout_s: float = 2.0) -> None:
        """Let the templates go; wait for them and the decoders. Workers must be gone already."""
        self._closing = True
        self._companions.close()
        for template in self._templates:
            template.stop()
        await self._all_gone(timeout_s)
        for template in self._templates:
            template.kill()
        await self._all_gone(timeout_s)
        self._cgroups.close()

    async def _all_gone(self, timeout_s: float) -> None:
        self._quiet.clear()
        self._look_for_quiet()
        if not self._quiet.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), timeout_s)

    def pids(self) -> dict[str, int]:
        """Worker name to pid, for those that exist."""
        return {w.name: w.child.pid for w in self._workers.values() if w.child}

    # -- what happens to them ------------------------------------------------------------------
    def _signal(self, name: str, number: signal.Signals) -> None:
        worker = self._workers.get(name)
        if worker is None:
            return
        if worker.child is not None:
            worker.child.send_signal(number)
        elif worker.link is not None:
            worker.link.close()  # not yet introduced: end of file is its death

    def _heard(self, worker: Worker, news: FromWorker) -> None:
        if isinstance(news, Ready):
            self._hold(worker, news.pid)  # its own word may come before the template's
        worker.busy = worker.busy and not isinstance(news, Done | Failed)
        if worker.printed is not None and isinstance(news, Done | Failed):
            worker.printed.drain()  # what it printed belongs to the job that is over
        self._listener.worker_said(worker.name, news)

    def _hold(self, worker: Worker, pid: int) -> None:
        if worker.child is not None:
            return
        try:
            worker.child = Child(pid, lambda code, number: self._gone(worker, code, number))
        except ProcessLookupError as error:  # it lived for less than a sweep of the strays
            self._forget(worker, None, None, f"it was gone before it was known: {error}")
            return
        self._fork_decoder(worker)
        self._cgroups.enter(worker.name, pid)
        self._listener.worker_forked(worker.name, pid)

    def _ended(self, worker: Worker, why: str) -> None:
        """End of file on its socket: it is dead or dying; whoever lingers is killed."""
        worker.failure = worker.failure or why
        asyncio.get_running_loop().call_later(LINGER_S, self._signal, worker.name, signal.SIGKILL)

    def _gone(self, worker: Worker, code: int | None, number: int | None) -> None:
        worker.child = None
        if worker.printed is not None:
            worker.printed.drain()  # its last lines belong to its last job
        if worker.link is not None:
            link, worker.link = worker.link, None
            link.drain()  # its last words count: a result may be among them
            link.close()
        if number == signal.SIGKILL:
            self._starved(worker)
        expected = worker.failure == "end of file"  # how every death shows on the link
        self._forget(worker, code, number, "" if expected else worker.failure)

    def _starved(self, worker: Worker) -> None:
        """Whether the kernel killed it for memory, and at whose limit."""
        seen = self._cgroups.leave(worker.name)
        if seen.get("oom"):
            self._listener.worker_starved(worker.name)
        elif not worker.condemned and (
            seen.get("oom_kill") or linux.oom_kills() > worker.oom_kills
        ):
            worker.failure = "the kernel killed for lack of memory in the service or the machine"

    def _forget(self, worker: Worker, code: int | None, number: int | None, message: str) -> None:
        if self._workers.pop(worker.name, None) is None:
            return
        if worker.link is not None:
            worker.link.close()
        # clean, and not in a group of its worker's, which it must not outlive
        clean = code == 0 and not (worker.busy or self._closing or self._cgroups.folder)
        self._companions.leave(worker.companion, clean=clean)
        if worker.decoder is not None:
            worker.decoder.close()
        self._cgroups.leave(worker.name)
        os.close(worker.stacks)
        self._listener.worker_exited(worker.name, code, number, message)

    def _look_for_quiet(self) -> None:
        if not self._templates and not self._companions.living:
            self._quiet.set()
