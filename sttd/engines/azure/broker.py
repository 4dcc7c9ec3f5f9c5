"""`python -m sttd.engines.azure.broker SOCKET`: holds the credentials for all workers.

A small helper beside the supervisor. It alone has the secrets in its environment and memory; a
worker asks for a grant when a job starts, over a socket that its own user alone can open. So a
recycled worker costs the identity endpoint nothing. It imports neither the SDK nor azure-identity.

Life: one line of JSON on standard input (the `[engine.azure]` section) starts it, "ready" on
standard output says that the socket listens, the end of standard input ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import socket
import stat
import struct
import sys
from collections.abc import Mapping

import msgspec

from sttd.engines import AuthenticationError, EngineError
from sttd.engines.azure.settings import read_settings
from sttd.engines.azure.sources import Answer, OwnSource, Question

LISTEN_BACKLOG = 128  # every worker may ask at once while one token is being fetched
ASKER_LIMIT_S = 2.0  # to send its one line
QUESTION_LIMIT = 4096  # bytes
PR_SET_DUMPABLE = 4  # linux/prctl.h


class Broker:
    """Answers one question at a time, so that one fetch serves all who wait for it."""

    def __init__(self, path: str, source: OwnSource) -> None:
        self._source = source
        self._listener = _listen(path)
        self._path = path

    def serve(self, life: int) -> None:
        """Answer until the descriptor `life` is at its end of file."""
        with selectors.DefaultSelector() as selector, self._listener:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(life, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if life in ready and not os.read(life, 4096):
                    break
                if self._listener in ready:
                    self._serve_one()
        os.unlink(self._path)

    def _serve_one(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it went away, or descriptors are short: the asker retries
        with connection:
            try:
                connection.settimeout(ASKER_LIMIT_S)
                if not _is_own_user(connection):
                    return
                answer = self._answer(_read_question(connection))
                connection.sendall(msgspec.json.encode(answer) + b"\n")
            except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return  # an asker that broke off or spoke nonsense gets no answer

    def _answer(self, question: Question) -> Answer:
        try:
            if question.ask == "proxy_password":
                return Answer(secret=self._source.proxy_password())
            return Answer(grant=self._source.get(question.refused))
        except AuthenticationError as error:
            return Answer(problem="authentication", message=str(error))
        except EngineError as error:
            return Answer(problem="unavailable", message=str(error))


def _listen(path: str) -> socket.socket:
    """A socket that nobody but this user can open, from its first moment."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)  # left by a helper that was killed; the folder is the daemon's own
    try:
        listener.bind(path)
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    listener.listen(LISTEN_BACKLOG)
    return listener


def _forbid_inspection() -> None:
    """No core dump and no ptrace, not even by the workers, who run as the same user (prctl 2)."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _is_own_user(connection: socket.socket) -> bool:
    """Who asks, by the kernel's word (SO_PEERCRED: pid, uid, gid)."""
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    uid: int = struct.unpack("3i", credentials)[1]
    return uid in (os.getuid(), 0)


def _read_question(connection: socket.socket) -> Question:
    line = b""
    while not line.endswith(b"\n") and len(line) < QUESTION_LIMIT:
        more = connection.recv(QUESTION_LIMIT)
        if not more:
            break
        line += more
    return msgspec.json.decode(line, type=Question)


def _read_line(descriptor: int) -> bytes:
    """One line, and not a byte more: the rest of the descriptor's life is its end."""
    line = bytearray()
    while (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def main(arguments: list[str], environ: Mapping[str, str] = os.environ) -> None:
    """Run until standard input ends."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m sttd.engines.azure.broker SOCKET")
    life = sys.stdin.fileno()
    try:
        settings = read_settings(msgspec.json.decode(_read_line(life), type=dict[str, object]))
    except ValueError as error:
        raise SystemExit(f"broker: {error}") from None
    _forbid_inspection()
    broker = Broker(arguments[0], OwnSource(settings, environ))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    broker.serve(life)


if __name__ == "__main__":
    main(sys.argv[1:])
