"""The process that tells others of events: runs a command, posts to an address; `[notify]`.

A process of its own, so that whatever a command or a server does costs the daemon nothing. Reads
its orders and then events from stdin, one JSON object a line; writes to stdout, likewise, what it
could not deliver. Reads no more while too much waits: the daemon then drops instead of waiting.
Has no secrets, keeps nothing over its own end. Started as `python -m sttd.notifier`; with --post
it is the child that makes one request.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any, BinaryIO

import msgspec

END = b"end\n"  # the last line: finish what is there, try nothing again, leave
MOST_WAITING = 500  # deliveries, those that wait for another try among them
BACKOFF_S = 1.0  # before the second try, doubling
BACKOFF_MAX_S = 60.0
TAIL = 500  # bytes of a command's output that a failure is told with
REFUSED = 65  # exit code of --post (EX_DATAERR of sysexits.h): another try makes no sense
URL = "STTD_NOTIFY_URL"
# Answers after which another try makes sense, beside 5xx: RFC 9110, RFC 8470, RFC 6585.
AGAIN = frozenset({408, 425, 429})


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How to deliver: the keys of `[notify]`; `timeout` in seconds. `outbox` is the folder."""

    exec: tuple[str, ...] = ()
    url: str = ""
    timeout: float = 30.0
    retries: int = 3
    concurrency: int = 2
    outbox: str = ""


class Delivery(msgspec.Struct, order=True):
    """One event on its way to one receiver; sorted by when it is due."""

    due: float
    number: int
    by_url: bool
    event: dict[str, Any]
    tries: int = 0


class Failure(msgspec.Struct, frozen=True):
    """What is written to stdout about a delivery that was given up."""

    event: str
    job: str | None
    what: str
    message: str


class Notifier:
    """Deliveries and the threads that make them, `concurrency` at a time."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._queue: list[Delivery] = []
        self._changed = threading.Condition()
        self._number = 0
        self._unfinished = 0
        self._ending = False
        self._groups: set[int] = set()
        self._starting = threading.RLock()  # held while a command is started and noted
        self._threads = [threading.Thread(target=self._work) for _ in range(order.concurrency)]

    def run(self, lines: BinaryIO) -> None:
        """Deliver what comes until the end is said; without a word, drop everything at once."""
        for thread in self._threads:
            thread.daemon = True
            thread.start()
        parent = os.getppid()
        for line in lines:
            if line == END:
                self._finish()
                return
            self._add(msgspec.json.decode(line))
            while self._is_full():
                if os.getppid() != parent:
                    self.abandon()
        self.abandon()

    def abandon(self) -> None:
        """Kill every command that runs, and leave; none is started meanwhile."""
        self._starting.acquire()  # never released: this process ends
        for group in list(self._groups):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        os._exit(0)

    def _add(self, event: dict[str, Any]) -> None:
        with self._changed:
            for by_url in [False] * bool(self._order.exec) + [True] * bool(self._order.url):
                self._number += 1
                self._unfinished += 1
                heapq.heappush(self._queue, Delivery(0.0, self._number, by_url, event))
            self._changed.notify_all()

    def _is_full(self) -> bool:
        with self._changed:
            if self._unfinished >= MOST_WAITING:
                self._changed.wait(1.0)
            return self._unfinished >= MOST_WAITING

    def _finish(self) -> None:
        with self._changed:
            self._ending = True
            for waiting in self._queue:  # a last try, now
                waiting.due = 0.0
            heapq.heapify(self._queue)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # -- the threads ---------------------------------------------------------------------------
    def _work(self) -> None:
        while (delivery := self._next()) is not None:
            message, again = self._try(delivery)
            delivery.tries += 1
            with self._changed:
                again = again and delivery.tries <= self._order.retries and not self._ending
                if again:
                    pause = min(BACKOFF_S * 2 ** (delivery.tries - 1), BACKOFF_MAX_S)
                    delivery.due = time.monotonic() + pause
                    heapq.heappush(self._queue, delivery)
                else:
                    self._unfinished -= 1
                self._changed.notify_all()
                if message and not again:
                    _tell(delivery, message)

    def _next(self) -> Delivery | None:
        """The next delivery when it is due; None when there is none and none will come."""
        with self._changed:
            while True:
                pause = self._queue[0].due - time.monotonic() if self._queue else None
                if pause is not None and pause <= 0:
                    return heapq.heappop(self._queue)
                if pause is None and self._ending:
                    return None
                self._changed.wait(pause)

    def _try(self, delivery: Delivery) -> tuple[str, bool]:
        """What went wrong ("" for nothing), and whether to try again."""
        order = self._order
        environment = {**os.environ, **variables(delivery.event), "STTD_OUTBOX": order.outbox}
        command = list(order.exec)
        if delivery.by_url:
            command = [sys.executable, "-m", "sttd.notifier", "--post"]
            environment[URL] = order.url
        try:
            code, output = self._run(command, environment, msgspec.json.encode(delivery.event))
        except OSError as error:
            return f"cannot be started: {error}", True
        if code == 0:
            return "", False
        how = f"took longer than {order.timeout:g} s" if code is None else f"exit code {code}"
        if code is not None and code < 0:
            how = f"died by signal {-code}"
        if delivery.by_url and code is not None and output:
            return output, code != REFUSED
        return f"{how}: {output}" if output else how, True

    def _run(
        self, command: list[str], environment: dict[str, str], event: bytes
    ) -> tuple[int | None, str]:
        """Exit code (None: out of time and killed, with all its group) and the output's end."""
        stdin = os.memfd_create("event", os.MFD_CLOEXEC)
        reading, writing = os.pipe()
        try:
            os.write(stdin, event)
            os.lseek(stdin, 0, os.SEEK_SET)
            with self._starting:
                process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=writing,
                    stderr=writing,
                    env=environment,
                    start_new_session=True,
                )
                self._groups.add(process.pid)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(stdin)
            os.close(writing)
        try:
            tail = _watch(process, reading, self._order.timeout)
            late = process.poll() is None
            if late:
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        finally:
            self._groups.discard(process.pid)
            os.close(reading)
        text = tail.decode(errors="backslashreplace").strip()
        return (None if late else code), text.rpartition("\n")[2]


def _watch(process: subprocess.Popen[bytes], output: int, timeout_s: float) -> bytes:
    """Read what it prints until it ends or its time is over; the last bytes of it.

    Its end counts, not the end of its output: what it leaves in the background may keep that open.
    """
    deadline = time.monotonic() + timeout_s
    tail = b""
    os.set_blocking(output, False)
    pidfd = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(output, select.POLLIN)
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready = dict(poll.poll(left * 1000))
            if output in ready:
                data = _read(output)
                tail = (tail + data)[-TAIL:]
                if not data:
                    poll.unregister(output)
            elif pidfd in ready:
                break
    finally:
        os.close(pidfd)
    return tail


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""


def variables(event: dict[str, Any]) -> dict[str, str]:
    """An event's plain fields for a command's environment: STTD_EVENT, STTD_JOB, ...

    Lists are on stdin only: an environment has little room.
    """
    plain = {k: v for k, v in event.items() if isinstance(v, str | int | float)}
    return {
        f"STTD_{key.upper()}": str(value).replace("\0", "").encode("utf-8", "replace").decode()
        for key, value in plain.items()
    }


def _tell(delivery: Delivery, message: str) -> None:
    failure = Failure(
        event=str(delivery.event.get("event", "")),
        job=delivery.event.get("job"),
        what="url" if delivery.by_url else "exec",
        message=f"{message} ({delivery.tries} tries)" if delivery.tries > 1 else message,
    )
    sys.stdout.buffer.write(msgspec.json.encode(failure) + b"\n")
    sys.stdout.buffer.flush()


def post() -> int:
    """Post stdin to $STTD_NOTIFY_URL as JSON; the exit code. Redirections are not followed."""
    import urllib.error  # noqa: PLC0415 (for this child only)
    import urllib.request  # noqa: PLC0415

    class Straight(urllib.request.HTTPRedirectHandler):
        """Follows nowhere: a post would become a get."""

        def redirect_request(self, *_args: Any, **_more: Any) -> None:
            return None

    headers = {"Content-Type": "application/json", "User-Agent": "sttd"}
    request = urllib.request.Request(  # noqa: S310 (the configuration allows http and https only)
        os.environ[URL], data=sys.stdin.buffer.read(), headers=headers, method="POST"
    )
    try:
        urllib.request.build_opener(Straight).open(request).close()
    except urllib.error.HTTPError as error:
        error.close()
        sys.stdout.write(f"HTTP {error.code} {error.reason}\n")
        return 1 if error.code >= 500 or error.code in AGAIN else REFUSED
    except (OSError, ValueError) as error:
        sys.stdout.write(f"{getattr(error, 'reason', error)}\n")
        return 1
    return 0


def main() -> int:
    """Read the order, then events."""
    if sys.argv[1:] == ["--post"]:
        return post()
    lines = sys.stdin.buffer
    notifier = Notifier(msgspec.json.decode(lines.readline(), type=Order))
    signal.signal(signal.SIGTERM, lambda *_: notifier.abandon())
    notifier.run(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
