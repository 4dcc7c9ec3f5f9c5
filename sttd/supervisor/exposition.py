"""A web server that has one page: asyncio, a handful of connections, no patience with slow ones.

Serves `GET /metrics` and nothing else. Never waits for a client in a way that anybody else would
notice, and knows nothing of what it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus

# What the page is made of: the request's Accept header in; media type and bytes out.
Render = Callable[[str], Awaitable[tuple[str, bytes]]]

MOST_CLIENTS = 8  # at once; more are refused
MOST_REFUSED = 8  # that are told so; more are cut off
PATIENCE_S = 5.0  # for a whole request, from the first byte awaited to the last one taken
LARGEST_REQUEST = 8192  # bytes of its head; it has no body
PAGE = "/metrics"
HINT = b"sttd: the figures are at /metrics\n"


class Exposition:
    """One for the daemon's life; `render` makes the page."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> None:
        """Listen there; raises OSError when that cannot be."""
        self._server = await asyncio.start_server(
            self._connected, host, port, limit=LARGEST_REQUEST
        )

    async def close(self) -> None:
        """Stop listening, and cut off who is being served."""
        if self._server is None:
            return
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._serving) >= MOST_CLIENTS + MOST_REFUSED:
            writer.transport.abort()
            return
        full = len(self._serving) >= MOST_CLIENTS
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, full=full))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, full: bool
    ) -> None:
        """Answer one request; whoever takes too long is cut off."""
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    if full:
                        writer.write(_answer(HTTPStatus.SERVICE_UNAVAILABLE))
                    else:
                        writer.write(await self._answer(reader))
                    await _farewell(reader, writer)
            finally:
                writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        line, *fields = head.decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        target, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1."):
            return _answer(HTTPStatus.BAD_REQUEST)
        if method not in ("GET", "HEAD"):
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED, more=("Allow: GET, HEAD",))
        whole = method == "GET"
        path = target.partition("?")[0]
        if path != PAGE:
            status = HTTPStatus.OK if path == "/" else HTTPStatus.NOT_FOUND
            return _answer(status, HINT, whole=whole)
        try:
            media, body = await self._render(_field(fields, "accept"))
        except Exception as error:  # noqa: BLE001 (the scraper is told, and so is the log)
            about = {"message": f"{PAGE} cannot be made", "exception": error}
            asyncio.get_running_loop().call_exception_handler(about)
            return _answer(HTTPStatus.INTERNAL_SERVER_ERROR)
        return _answer(HTTPStatus.OK, body, media, whole=whole)


async def _farewell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the client has the whole answer and hangs up.

    Closed with something unread of what it sent, the kernel resets the connection, and the client
    may lose the answer with it (RFC 9112, 9.6).
    """
    writer.transport.set_write_buffer_limits(0)
    await writer.drain()
    writer.write_eof()
    while await reader.read(LARGEST_REQUEST):
        pass


def address(listen: str) -> tuple[str, int]:
    """Host and port of `metrics.listen`, which the configuration has checked.

    "localhost" is 127.0.0.1: where it also names ::1, that address need not exist.
    """
    host, _, port = listen.rpartition(":")
    return ("127.0.0.1" if host == "localhost" else host.strip("[]")), int(port)


async def listen(exposition: Exposition, where: str) -> None:
    """Open it at `where`; raises OSError with the key and the remedy in its message."""
    try:
        await exposition.open(*address(where))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(
            f"metrics.listen: cannot listen on {where}: {why}; name a free port, "
            f'find who has it with "ss -ltnp", or set it to "" for no metrics'
        ) from error


def _field(fields: list[str], wanted: str) -> str:
    """The value of a header field; several of one name count as one list (RFC 9110, 5.3)."""
    pairs = (field.partition(":") for field in fields)
    return ",".join(value.strip() for name, _, value in pairs if name.strip().lower() == wanted)


def _answer(
    status: HTTPStatus,
    body: bytes | None = None,
    media: str = "text/plain; charset=utf-8",
    *,
    whole: bool = True,
    more: tuple[str, ...] = (),
) -> bytes:
    body = f"{status.value} {status.phrase}\n".encode() if body is None else body
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {media}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *more,
    )
    return "\r\n".join((*head, "", "")).encode("latin-1") + (body if whole else b"")
