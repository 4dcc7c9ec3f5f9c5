"""The one page that is served, against clients of every kind, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from sttd.supervisor import exposition
from sttd.supervisor.exposition import MOST_CLIENTS, Exposition, address, listen
from tests.support.waiting import eventually_async

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def page(accept: str) -> tuple[str, bytes]:
    return "text/plain", f"accept={accept}\n".encode()


@asynccontextmanager
async def served(
    render: Callable[[str], Awaitable[tuple[str, bytes]]] = page,
) -> AsyncIterator[tuple[Exposition, int]]:
    one = Exposition(render)
    await one.open("127.0.0.1", 0)
    assert one._server is not None
    try:
        yield one, one._server.sockets[0].getsockname()[1]
    finally:
        await one.close()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


async def get(port: int, path: str = "/metrics", *fields: str) -> tuple[int, bytes]:
    head = "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""))
    answer = await ask(port, head.encode())
    first, _, body = answer.partition(b"\r\n\r\n")
    return int(first.split()[1]), body


def test_the_page_is_served_with_what_the_client_accepts() -> None:
    async def go() -> None:
        async with served() as (_, port):
            assert await get(port) == (200, b"accept=\n")
            assert await get(port, "/metrics?a=b", "ACCEPT: x/y;q=1") == (200, b"accept=x/y;q=1\n")
            fields = ("Accept: a", "Accept:b")
            assert await get(port, "/metrics", *fields) == (200, b"accept=a,b\n")

    asyncio.run(go())


def test_other_pages_and_methods_are_refused_and_say_how() -> None:
    async def go() -> None:
        async with served() as (_, port):
            assert await get(port, "/") == (200, exposition.HINT)
            assert await get(port, "/secrets") == (404, exposition.HINT)
            answer = await ask(port, b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 405 ")
            assert b"Allow: GET, HEAD" in answer
            answer = await ask(port, b"HEAD /metrics HTTP/1.0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"\r\n\r\n")
            assert b"Content-Length: 8" in answer

    asyncio.run(go())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"x" * 20_000, b"431"),
    ],
)
def test_what_is_no_request_is_answered_and_cut_off(request_bytes: bytes, status: bytes) -> None:
    async def go() -> None:
        async with served() as (_, port):
            answer = await ask(port, request_bytes)
            assert answer.split()[1] == status
            assert await get(port) == (200, b"accept=\n")

    asyncio.run(go())


def test_clients_that_say_nothing_are_cut_off_and_more_than_a_few_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exposition, "PATIENCE_S", 0.5)

    async def go() -> None:
        async with served() as (one, port):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CLIENTS)]
            await eventually_async(lambda: len(one._serving) == MOST_CLIENTS)
            assert (await get(port))[0] == 503
            for reader, writer in silent:
                assert await asyncio.wait_for(reader.read(), 30) == b""
                writer.close()
            assert await get(port) == (200, b"accept=\n")

    asyncio.run(go())


def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "PATIENCE_S", 0.5)

    async def large(_accept: str) -> tuple[str, bytes]:
        return "text/plain", b"x" * (64 << 20)

    async def go() -> None:
        async with served(large) as (one, port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                await eventually_async(lambda: one._serving)
                await eventually_async(lambda: not one._serving)

    asyncio.run(go())


def test_a_page_that_cannot_be_made_is_an_error_that_is_told() -> None:
    async def broken(_accept: str) -> tuple[str, bytes]:
        raise ValueError("no figures")

    async def go() -> None:
        told: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: told.append(str(context["exception"])))
        async with served(broken) as (_, port):
            assert (await get(port))[0] == 500
            assert (await get(port))[0] == 500
        assert told == ["no figures"] * 2

    asyncio.run(go())


def test_closing_cuts_off_who_is_being_served() -> None:
    async def never(_accept: str) -> tuple[str, bytes]:
        await asyncio.Event().wait()
        raise AssertionError

    async def go() -> None:
        async with served(never) as (one, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            await eventually_async(lambda: one._serving)
            await one.close()
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()

    asyncio.run(go())


def test_a_taken_port_is_named_with_its_key_and_a_remedy() -> None:
    async def go() -> None:
        async with served() as (_, port):
            with pytest.raises(OSError, match="Address already in use") as raised:
                await listen(Exposition(page), f"127.0.0.1:{port}")
            assert str(raised.value).startswith(
                f"metrics.listen: cannot listen on 127.0.0.1:{port}"
            )
            assert "name a free port" in str(raised.value)

    asyncio.run(go())


def test_every_way_to_write_the_loopback_is_understood() -> None:
    assert address("127.0.0.1:9465") == ("127.0.0.1", 9465)
    assert address("localhost:1") == ("127.0.0.1", 1)
    assert address("[::1]:65535") == ("::1", 65535)
