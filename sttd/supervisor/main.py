"""The composition of the daemon: what is made in which order, and unmade in reverse.

Composes only: policy is in `core`, mechanism in the adapters.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, suppress

import msgspec

from sttd import __version__
from sttd.config import ConfigError, Settings, changes, load
from sttd.core import events as on
from sttd.log import Log
from sttd.supervisor import keys
from sttd.supervisor.access import Access
from sttd.supervisor.arrivals import Arrivals
from sttd.supervisor.control import Control
from sttd.supervisor.durable import StorageBroken, Syncer
from sttd.supervisor.fetches import Fetches
from sttd.supervisor.handlers import Handlers
from sttd.supervisor.inbox import Inbox
from sttd.supervisor.intake import Intake
from sttd.supervisor.ledger import Ledger, LedgerBroken, LedgerError
from sttd.supervisor.listener import ControlError
from sttd.supervisor.loop import Loop
from sttd.supervisor.notify import Notify
from sttd.supervisor.outbox import Outbox
from sttd.supervisor.outlets import MissingPackageError, Outlets
from sttd.supervisor.portions import arrival_settings, inbox_settings, policies
from sttd.supervisor.process import boot_id, prepare_process, settle_memory
from sttd.supervisor.recovery import Recovered, recover
from sttd.supervisor.settling import Settling
from sttd.supervisor.spool import Spool
from sttd.supervisor.starting import EX_CONFIG, EX_FAILED, EX_OK, StartError, take_place
from sttd.supervisor.telling import Telling
from sttd.supervisor.upkeep import Upkeep
from sttd.supervisor.uploads import Uploads
from sttd.wire import replies as answer
from sttd.wire import views
from sttd.wire.codes import Code


class Daemon:
    """Everything of one running daemon. `open` makes it, `run` lives, `close` unmakes it.

    With `listening` False there is no control socket (`sttd run-once`).
    """

    def __init__(
        self, settings: Settings, log: Log, config: str | None = None, *, listening: bool = True
    ) -> None:
        self.settings = settings
        self.log = log
        self._config = config
        self._listening = listening
        self._made = AsyncExitStack()
        self._holding = False
        self._fatal: Exception | None = None
        self._signals = 0
        self._started = time.monotonic()
        self.notify = Notify()

    # -- making --------------------------------------------------------------------------------
    async def open(self) -> None:
        """Take the lock, recover, begin to accept and to work. Raises StartError."""
        settings = self.settings
        prepare_process()
        lock = take_place(settings)
        self._made.callback(lock.release)
        self._holding = True
        self.log.hold()
        self.log.event(
            "daemon.started",
            version=__version__,
            pid=os.getpid(),
            state_dir=str(settings.state_dir),
            config=self._config or "",
        )
        for warning in settings.warnings:
            self.log.event(
                "config.warning", where=warning.where, key=warning.key, message=str(warning)
            )
        try:
            await self._compose(settings)
        except MissingPackageError as error:
            raise StartError(str(error), EX_CONFIG) from error
        except (LedgerError, ControlError, StorageBroken, OSError) as error:
            raise StartError(str(error)) from error
        self.log.let_go()
        settle_memory()

    async def _compose(self, settings: Settings) -> None:
        self._syncer = Syncer()
        self._made.callback(self._syncer.close)
        self.spool = Spool(settings.spool_dir)
        self.outbox = Outbox(
            settings.outbox_dir,
            done=settings.done_dir,
            failed=settings.failed_dir,
            spool=self.spool,
        )
        self.ledger = Ledger.open(
            settings.ledger_path,
            boot_id=boot_id(),
            now_boottime_ns=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            now_wall_ns=time.time_ns,
            taken=self.outbox.taken,
        )
        self.ledger.start(self.fail)
        self._made.push_async_callback(self._close_ledger)
        self.outlets = Outlets(settings, self.log, self.ledger, serving=self._listening)
        await self._made.enter_async_context(self.outlets)
        self.inbox = Inbox(inbox_settings(settings), self.spool, syncer=self._syncer)
        self.settling = Settling(settings, self.ledger, self.outbox, self.spool)
        recovered = await recover(
            ledger=self.ledger,
            inbox=self.inbox,
            outbox=self.outbox,
            spool=self.spool,
            syncer=self._syncer,
            dispose=self.settling.dispose,
            max_file_size=settings.limits.max_file_size,
        )
        self.loop = Loop(
            settings,
            policies(settings),
            ledger=self.ledger,
            spool=self.spool,
            settling=self.settling,
            log=self.log,
            on_fatal=self.fail,
        )
        self._take_in(settings, recovered)
        await self.outlets.serve(self.loop)

    def _take_in(self, settings: Settings, recovered: Recovered) -> None:
        """The ways by which recordings come in, and what has to be told of the recovery."""
        telling = Telling(self.loop)
        self.arrivals = Arrivals(
            arrival_settings(settings),
            inbox=self.inbox,
            outbox=self.outbox,
            spool=self.spool,
            ledger=self.ledger,
            syncer=self._syncer,
            listener=telling,
            dispose=self.settling.dispose,
        )
        if recovered.claims.accepted:
            telling.accepted(recovered.claims.accepted)
        for row in recovered.claims.failed:
            telling.failed(row)
        if recovered.undisposed:
            self.loop.put_away(recovered.undisposed)
        self.fetches = Fetches(settings, self.spool.new_upload)
        intake = Intake(self.arrivals, self.fetches)
        self.uploads = Uploads(
            self.spool.new_upload,
            max_bytes=settings.limits.max_file_size,
            admit=intake.admit,
            accept=intake.accept,
        )
        self._made.callback(self.uploads.close)
        self.upkeep = Upkeep(settings, self.ledger, self.log, self.uploads.expire)
        if self._listening:
            self._listen(settings, intake)

    def _listen(self, settings: Settings, intake: Intake) -> None:
        handlers = Handlers(self.loop, self.ledger, intake, self.settling, self.reload)
        self.control = Control(
            settings.control.endpoint,
            settings.control.events,
            handler=handlers.handle,
            uploads=self.uploads,
            access=Access(os.geteuid()),
            group=settings.control.group,
            max_message=settings.control.max_message,
            curve=keys.load(settings.control),
            on_error=self._control_failed,
            on_trouble=lambda line: self.log.event("control.trouble", message=line),
        )
        self.control.start()
        self._made.push_async_callback(self.control.close)
        for line in self.control.warnings:
            self.log.event("control.trouble", message=line)
        self.log.listen(handlers.rang)
        self.log.listen(self.control.publish)

    # -- living --------------------------------------------------------------------------------
    async def run(self) -> int:
        """Work until told to leave; the exit code."""
        self._heed_signals()
        self.loop.feed(on.Tick())
        self.log.event(
            "daemon.ready", pid=os.getpid(), engine=self.settings.engine.name, version=__version__
        )
        self.notify.send("READY=1", "STATUS=accepting submissions")
        attending = asyncio.create_task(self.arrivals.run())
        attending.add_done_callback(self._attended)
        pinging = asyncio.create_task(self._ping())
        keeping_up = asyncio.create_task(self.upkeep.run())
        keeping_up.add_done_callback(self._attended)
        broken = asyncio.create_task(self.loop.broken.wait())
        broken.add_done_callback(lambda _task: self._engine_is_missing())
        await self.loop.run()
        self.notify.send("STOPPING=1")
        self.arrivals.stop()
        for task in (pinging, keeping_up, broken):
            task.cancel()
        with suppress(Exception):  # what it was is in self._fatal
            await attending
        await asyncio.gather(pinging, keeping_up, broken, return_exceptions=True)
        if isinstance(self._fatal, StartError):
            raise self._fatal
        return EX_FAILED if self._fatal else EX_OK

    async def close(self, code: int) -> None:
        """Unmake everything that was made, in reverse."""
        if self._holding:
            uptime = round(time.monotonic() - self._started, 3)
            self.log.event("daemon.stopped", uptime_s=uptime, exit_code=code)
        await self._made.aclose()
        self.notify.close()

    async def _close_ledger(self) -> None:
        with suppress(LedgerError):  # it is closed all the same
            await self.ledger.close()

    def fail(self, error: Exception) -> None:
        """The daemon cannot go on: say why, end everything now, leave non-zero."""
        if self._fatal is None:
            self.tell_failure(error)
            if hasattr(self, "loop"):
                self.loop.abandon()

    def tell_failure(self, error: Exception) -> None:
        """Log it, once: the first is the cause."""
        if self._fatal is None:
            self._fatal = error
            name = "" if isinstance(error, StartError) else f"{type(error).__name__}: "
            self.log.event("daemon.failed", message=f"{name}{error}")

    def stop(self, number: int) -> None:
        """A signal to leave: drain; at the second one, now."""
        self._signals += 1
        self.log.event("daemon.stopping", signal=number)
        self.notify.send("STOPPING=1", "STATUS=waiting for running jobs")
        self.loop.feed(on.StopRequested(now=self._signals > 1))

    async def reload(self) -> answer.Reply:
        """Read the configuration again; what can be is in force at once."""
        self.notify.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            new = await asyncio.to_thread(load, self._config)
        except ConfigError as error:
            message = "; ".join(str(problem) for problem in error.problems)
            self.log.event("config.rejected", message=message)
            return answer.Error.of(Code.BAD_CONFIG, message, "the old configuration holds")
        finally:
            self.notify.send("READY=1")
        found = changes(self.settings, new)
        self._apply(new, engine_changed=any(c.renews_workers for c in found))
        live = tuple(c.key for c in found if not c.needs_restart)
        late = tuple(c.key for c in found if c.needs_restart)
        self.log.event("config.reloaded", changed=live, restart=late)
        return answer.Reloaded(views.ReloadView(changed=live, needs_restart=late))

    def _apply(self, new: Settings, *, engine_changed: bool) -> None:
        old = self.settings
        new = msgspec.structs.replace(
            new,
            state_dir=old.state_dir,
            control=old.control,
            inbox=msgspec.structs.replace(new.inbox, path=old.inbox.path),
            outbox=msgspec.structs.replace(new.outbox, path=old.outbox.path),
            metrics=old.metrics,
        )
        self.settings = new
        self.log.configure(new.log.format, new.log.level)
        self.outlets.configure(new)
        self.inbox.settings = inbox_settings(new)
        self.arrivals.configure(arrival_settings(new))
        self.uploads.max_bytes = new.limits.max_file_size
        self.settling.settings = new
        self.upkeep.settings = self.fetches.settings = new
        self.loop.reconfigure(new, policies(new), engine_changed=engine_changed)

    # -- small things --------------------------------------------------------------------------
    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number)
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(self._reload_by_signal()))

    async def _reload_by_signal(self) -> None:
        await self.reload()

    def _attended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.fail(error)

    def _engine_is_missing(self) -> None:
        if self.loop.broken.is_set():
            self.fail(StartError(self.loop.broken_why, EX_CONFIG))

    async def _ping(self) -> None:
        """Keep systemd's watchdog quiet as long as this loop turns."""
        if self.notify.watchdog_s:
            while True:
                self.notify.send("WATCHDOG=1", f"STATUS={self.loop.core.state}")
                await asyncio.sleep(self.notify.watchdog_s)

    def _control_failed(self, verb: str, error: BaseException) -> None:
        """The client is told as well; a broken disk or ledger ends the daemon, whoever met it."""
        self.log.event("control.trouble", message=f"{verb}: {type(error).__name__}: {error}")
        if isinstance(error, StorageBroken | LedgerBroken):
            self.fail(error)


async def _live(settings: Settings, log: Log, config: str | None) -> int:
    daemon = Daemon(settings, log, config)
    code = EX_FAILED
    try:
        await daemon.open()
        code = await daemon.run()
    except StartError as error:
        code = error.code
        daemon.tell_failure(error)
        print(f"sttd: {error}", file=sys.stderr)  # noqa: T201 (before the log means anything)
    finally:
        await daemon.close(code)
    return code


def serve(settings: Settings, config: str | None) -> int:
    """Run the daemon until it is told to leave; the exit code."""
    log = Log(sys.stdout, format=settings.log.format, level=settings.log.level)
    log.adopt_logging()
    return asyncio.run(_live(settings, log, config))
