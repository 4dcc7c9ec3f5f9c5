"""Recordings by URL, from a server that lies in every way a server can."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from sttd.config import Settings
from sttd.config.sections import Limits, Url
from sttd.supervisor.access import Peer
from sttd.supervisor.fetches import MAX_AT_ONCE, MAX_WAITING, FetchError, Fetches, name_of
from sttd.supervisor.intake import Intake
from sttd.supervisor.records import JobRow
from sttd.wire import replies as answer
from sttd.wire import requests as ask
from sttd.worker.addresses import RefusedError, is_allowed, is_public, parse
from tests.speech_service.certificates import self_signed
from tests.support.daemon import daemon
from tests.support.files import World, attending

BODY = bytes(range(256)) * 400
Answer = Callable[[ssl.SSLSocket, str], None]
HOSTS = ("localhost", "private.test", "metadata.test", "mixed.test", "mapped.test")


class Liar:
    """An https server on loopback; `answers[path]` writes whatever it likes."""

    def __init__(self, folder: Path) -> None:
        self._tls, self.certificate = self_signed(folder)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def url(self, path: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}{path}"

    def close(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._talk, args=(plain,))
            self._threads.append(thread)
            thread.start()

    def _talk(self, plain: socket.socket) -> None:
        plain.settimeout(10)
        try:
            with self._tls.wrap_socket(plain, server_side=True) as line:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += line.recv(4096) or b"\r\n\r\n"
                text = head.decode()
                self.requests.append(text)
                self.answers[text.split(" ")[1]](line, text)
        except (OSError, IndexError):  # it hung up, maybe before it had asked for anything
            plain.close()


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    one = Liar(tmp_path)
    try:
        yield one
    finally:
        one.close()


def says(*parts: bytes, status: str = "200 OK", **headers: object) -> Answer:
    lines = [f"HTTP/1.1 {status}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    head = "\r\n".join([*lines, "", ""]).encode()

    def answer(line: ssl.SSLSocket, _request: str) -> None:
        line.sendall(head + b"".join(parts))
        line.unwrap()

    return answer


def whole(body: bytes = BODY) -> Answer:
    return says(body, Content_Length=len(body))


def fetches(
    liar: Liar, folder: Path, *, timeout: float = 20.0, remember: float = 600.0, most: int = 1 << 20
) -> Fetches:
    uploads = folder / "uploads"
    uploads.mkdir(exist_ok=True)
    settings = Settings(
        url=Url(enabled=True, allow_hosts=HOSTS, timeout=timeout, remember_failures=remember),
        limits=Limits(max_file_size=most, min_free_disk=0),
    )
    return Fetches(
        settings,
        lambda: uploads / os.urandom(8).hex(),
        [
            sys.executable,
            "-m",
            "tests.support.fetch_on_loopback",
            str(liar.port),
            str(liar.certificate),
        ],
    )


@pytest.fixture(autouse=True)
def _tests_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def fetched(one: Fetches, url: str) -> bytes:
    async def run() -> bytes:
        path = await one.fetch(url)
        data = path.read_bytes()
        path.unlink()
        return data

    return asyncio.run(run())


def refused(one: Fetches, url: str) -> str:
    """The code; and nothing is left of it."""
    with pytest.raises(FetchError) as caught:
        fetched(one, url)
    assert list(one._new_path().parent.iterdir()) == []
    return f"{caught.value.code}: {caught.value}"


# -- what is fetched -------------------------------------------------------------------------------
def test_a_recording_is_fetched_and_its_host_is_named(liar: Liar, tmp_path: Path) -> None:
    liar.answers["/a/talk.wav?x=1"] = whole()
    assert fetched(fetches(liar, tmp_path), liar.url("/a/talk.wav?x=1")) == BODY
    assert f"Host: localhost:{liar.port}" in liar.requests[0]


def test_a_redirect_is_followed_and_checked(liar: Liar, tmp_path: Path) -> None:
    liar.answers["/old"] = says(status="302 Found", Location="/new", Content_Length=0)
    liar.answers["/new"] = whole()
    assert fetched(fetches(liar, tmp_path), liar.url("/old")) == BODY


def test_what_broke_off_is_resumed_where_it_stood(liar: Liar, tmp_path: Path) -> None:
    def twice(line: ssl.SSLSocket, request: str) -> None:
        if "Range" not in request:
            says(BODY[:5000], Content_Length=len(BODY), ETag='"v1"')(line, request)
            return
        assert "Range: bytes=5000-" in request
        assert 'If-Range: "v1"' in request
        rest = BODY[5000:]
        says(
            rest,
            status="206 Partial Content",
            Content_Length=len(rest),
            Content_Range=f"bytes 5000-{len(BODY) - 1}/{len(BODY)}",
            ETag='"v1"',
        )(line, request)

    liar.answers["/"] = twice
    assert fetched(fetches(liar, tmp_path), liar.url("/")) == BODY
    assert len(liar.requests) == 2


def test_without_a_tag_what_broke_off_is_fetched_anew(liar: Liar, tmp_path: Path) -> None:
    def twice(line: ssl.SSLSocket, request: str) -> None:
        body = BODY[:5000] if len(liar.requests) == 1 else BODY
        says(body, Content_Length=len(BODY))(line, request)

    liar.answers["/"] = twice
    assert fetched(fetches(liar, tmp_path), liar.url("/")) == BODY
    assert "Range" not in liar.requests[1]


def test_a_recording_that_changed_meanwhile_is_taken_from_its_beginning(
    liar: Liar, tmp_path: Path
) -> None:
    def changed(line: ssl.SSLSocket, request: str) -> None:
        if len(liar.requests) == 1:
            says(b"old" * 999, Content_Length=9999, ETag='"v1"')(line, request)
        else:
            says(BODY, Content_Length=len(BODY), ETag='"v2"')(line, request)

    liar.answers["/"] = changed
    assert fetched(fetches(liar, tmp_path), liar.url("/")) == BODY


def test_a_server_that_is_overloaded_is_asked_again(liar: Liar, tmp_path: Path) -> None:
    def later(line: ssl.SSLSocket, request: str) -> None:
        busy = says(status="503 Busy", Content_Length=0)
        (busy if len(liar.requests) < 3 else whole())(line, request)

    liar.answers["/"] = later
    assert fetched(fetches(liar, tmp_path), liar.url("/")) == BODY


# -- what is refused -------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["private.test", "metadata.test", "mixed.test", "mapped.test"])
def test_a_name_with_one_private_address_is_refused(host: str, liar: Liar, tmp_path: Path) -> None:
    assert refused(fetches(liar, tmp_path), liar.url("/", host)).startswith("not_allowed")
    assert liar.requests == []


@pytest.mark.parametrize(
    "location",
    ["https://private.test:{}/", "http://localhost:{}/", "https://localhost:1/", "file:///etc"],
)
def test_a_redirect_to_where_nothing_may_be_fetched_is_refused(
    location: str, liar: Liar, tmp_path: Path
) -> None:
    liar.answers["/"] = says(status="302 Found", Location=location.format(liar.port))
    assert refused(fetches(liar, tmp_path), liar.url("/")).startswith("not_allowed")
    assert len(liar.requests) == 1


def test_a_loop_of_redirects_ends(liar: Liar, tmp_path: Path) -> None:
    liar.answers["/"] = says(status="302 Found", Location="/", Content_Length=0)
    assert "more than 3 redirects" in refused(fetches(liar, tmp_path), liar.url("/"))
    assert len(liar.requests) == 4


def test_what_announces_too_much_is_not_begun(liar: Liar, tmp_path: Path) -> None:
    liar.answers["/"] = says(Content_Length=1 << 40)
    assert refused(fetches(liar, tmp_path), liar.url("/")).startswith("too_large")
    assert len(liar.requests) == 1


def endless(line: ssl.SSLSocket, _request: str) -> None:
    line.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        line.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def test_a_body_without_end_is_cut_off_at_the_limit(liar: Liar, tmp_path: Path) -> None:
    liar.answers["/"] = endless
    assert refused(fetches(liar, tmp_path), liar.url("/")).startswith("too_large")


def test_a_body_shorter_than_announced_is_no_recording(liar: Liar, tmp_path: Path) -> None:
    liar.answers["/"] = says(b"short", Content_Length=99)
    assert "5 of 99 bytes came" in refused(fetches(liar, tmp_path), liar.url("/"))
    assert len(liar.requests) == 5


def test_a_server_that_drips_is_left_at_the_deadline(liar: Liar, tmp_path: Path) -> None:
    def drip(line: ssl.SSLSocket, _request: str) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not liar.over.wait(0.05):
            line.sendall(b"x")

    liar.answers["/"] = drip
    assert "url.timeout" in refused(fetches(liar, tmp_path, timeout=1.0), liar.url("/"))


def test_a_body_that_was_compressed_unasked_is_refused(liar: Liar, tmp_path: Path) -> None:
    liar.answers["/"] = says(BODY, Content_Length=len(BODY), Content_Encoding="gzip")
    assert refused(fetches(liar, tmp_path), liar.url("/")).startswith("undecodable")


@pytest.mark.parametrize(("status", "tries"), [("404 Not Found", 1), ("500 Oh", 5)])
def test_what_the_server_refuses_fails_with_its_words(
    status: str, tries: int, liar: Liar, tmp_path: Path
) -> None:
    liar.answers["/"] = says(status=status, Content_Length=0)
    assert status[:3] in refused(fetches(liar, tmp_path), liar.url("/"))
    assert len(liar.requests) == tries


def test_an_address_that_failed_is_not_tried_again_for_a_while(liar: Liar, tmp_path: Path) -> None:
    liar.answers["/"] = says(status="404 Not Found", Content_Length=0)
    one = fetches(liar, tmp_path)
    refused(one, liar.url("/"))
    assert "remembered" in refused(one, liar.url("/"))
    assert len(liar.requests) == 1


def test_whoever_waited_while_an_address_failed_does_not_try_it_again(
    liar: Liar, tmp_path: Path
) -> None:
    liar.answers["/"] = says(status="404 Not Found", Content_Length=0)
    one = fetches(liar, tmp_path)

    async def many() -> list[Path | BaseException]:
        asks = (one.fetch(liar.url("/")) for _ in range(MAX_AT_ONCE + MAX_WAITING))
        return await asyncio.gather(*asks, return_exceptions=True)

    said = [str(each) for each in asyncio.run(many())]
    assert all("404" in each for each in said)
    assert len(liar.requests) <= 2 * MAX_AT_ONCE  # those that were under way when it was known


def test_a_certificate_of_somebody_else_is_refused(liar: Liar, tmp_path: Path) -> None:
    one = fetches(liar, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    one._command = [*one._command[:-1], str(self_signed(other)[1])]
    assert "certificate" in refused(one, liar.url("/"))


def test_a_helper_that_dies_is_a_failure_and_leaves_nothing(liar: Liar, tmp_path: Path) -> None:
    one = fetches(liar, tmp_path)
    one._command = [sys.executable, "-c", "import os; os.abort()"]
    assert refused(one, liar.url("/")).startswith("internal")


def test_a_helper_whose_supervisor_died_while_it_started_fetches_nothing(
    liar: Liar, tmp_path: Path
) -> None:
    liar.answers["/"] = whole()
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    one = fetches(liar, tmp_path)
    for supervisor, served in ((died.pid, b""), (os.getpid(), BODY)):
        wish = msgspec.structs.replace(one._wish(liar.url("/")), supervisor=supervisor)
        with (tmp_path / "fetched").open("w+b") as file:
            helper = subprocess.Popen(
                one._command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
            )
            helper.communicate(msgspec.json.encode(wish), timeout=30)
        assert (tmp_path / "fetched").read_bytes() == served
        assert bool(liar.requests) == bool(served)


# -- addresses -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::", "ff02::1",
        "2001:db8::1", "3fff::1", "fec0::1", "5f00::1", "192.0.0.192", "192.88.99.1",
        "168.63.129.16", "::ffff:168.63.129.16", "nonsense",
    ],
)  # fmt: skip
def test_an_address_that_is_not_of_the_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://a.test/", "https://b.test/", "https://a.test:8443/", "https://u:p@a.test/",
        "https://a.test\\@b.test/", "https:///x", "https://a.test/\r\nX: y", "ftp://a.test/",
        "https://a.test:99999/", "https://ä.test/", "https://[::1/", "a.test/x", "",
    ],
)  # fmt: skip
def test_an_address_with_a_catch_is_refused(url: str) -> None:
    with pytest.raises(RefusedError):
        parse(url, ["a.test"])


def test_a_star_allows_what_lies_below_and_not_the_name_itself() -> None:
    assert is_allowed("x.y.Example.com", ["*.example.com"])
    assert not is_allowed("example.com", ["*.example.com"])
    assert not is_allowed("evilexample.com", ["*.example.com"])
    assert not is_allowed("a.test.evil.com", ["a.test"])


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.test/x/my%20talk.wav?sig=1", "my talk.wav"),
        ("https://a.test/", "recording"),
        ("https://a.test/a/..%2f..%2fetc", "etc"),
    ],
)
def test_the_recording_is_called_as_its_path_ends(url: str, name: str) -> None:
    assert name_of(url) == name


# -- jobs ------------------------------------------------------------------------------------------
def test_a_fetched_recording_is_a_durable_job_when_the_client_is_answered(
    liar: Liar, tmp_path: Path
) -> None:
    liar.answers["/talk.wav"] = whole()

    async def run() -> tuple[answer.Reply, answer.Reply, JobRow | None, list[Path]]:
        world = World(tmp_path / "state")
        async with attending(world) as arrivals:
            one = fetches(liar, tmp_path)
            one._new_path = world.spool.new_upload
            intake = Intake(arrivals, one)
            request = ask.SubmitUrl(url=liar.url("/talk.wav"), key="k")
            first = await intake.by_url(request, Peer(0))
            second = await intake.by_url(request, Peer(0))
            assert isinstance(first, answer.Submitted)
            row = await world.ledger.job(first.job.job)
            return first, second, row, list(world.spool.uploads.iterdir())

    first, second, row, left = asyncio.run(run())
    assert isinstance(first, answer.Submitted)
    assert isinstance(second, answer.Submitted)
    assert row is not None
    assert (row.kind, row.name, row.size) == ("url", "talk.wav", len(BODY))
    assert (second.job.job, second.job.duplicate) == (row.id, True)
    assert len(liar.requests) == 1
    assert left == []


def test_the_daemon_fetches_nothing_unless_told_to_and_nothing_from_itself() -> None:
    with daemon() as sttd:
        sttd.start()
        off = sttd.ctl("submit", "https://localhost/a.wav", "--json")
        assert off.returncode == 1
        assert "not enabled" in off.stderr
        sttd.configure(url={"enabled": True, "allow_hosts": ["localhost"]})
        assert sttd.ctl("reload").returncode == 0
        on = sttd.ctl("submit", "https://localhost/a.wav")
        assert on.returncode == 1
        assert "which is not public" in on.stderr
        assert sttd.leftovers() == []
