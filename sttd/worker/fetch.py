"""Fetches one recording over https into a file it is handed: `python -m sttd.worker.fetch`.

A process of its own for every recording, so that what a server sends never meets the daemon's
memory. Connects to the very address that was checked, checks each redirect anew, counts what
comes, resumes where it broke off, and has one deadline for everything. Holds no credentials,
opens no file, follows no proxy. The descriptor is standard output, the wish comes by standard
input, the outcome leaves by standard error.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urljoin

import msgspec

from sttd import linux
from sttd.wire.codes import Code
from sttd.wire.fetching import Outcome, Wish
from sttd.worker import addresses
from sttd.worker.addresses import HTTPS, RefusedError, Target

MAX_REDIRECTS = 3
MAX_TRIES = 5
FIRST_PAUSE_S = 0.5  # doubled after every try
SILENCE_S = 15.0  # for connecting, and between two pieces of the answer
PIECE = 1 << 16
MAX_MESSAGE = 500  # characters; a server chooses some of them
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class FetchError(Exception):
    """It cannot be had; the code says whose fault it is."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class BrokenError(Exception):
    """It broke off, or the server asked for patience; another try may help."""


class DeadlineError(BaseException):
    """The time is up. No Exception: nothing on the way may take it for a broken connection."""


class _Connection(http.client.HTTPSConnection):
    """Goes to the address it is told, by the name it was asked for."""

    def __init__(self, target: Target, address: str, context: ssl.SSLContext) -> None:
        super().__init__(target.host, target.port, timeout=SILENCE_S)
        self._address = address
        self._tls = context

    def connect(self) -> None:
        """Connect to the checked address; the certificate must be the host's."""
        plain = socket.create_connection((self._address, self.port), SILENCE_S)
        try:
            self.sock = self._tls.wrap_socket(
                plain, server_hostname=self.host, suppress_ragged_eofs=False
            )
        except BaseException:
            plain.close()
            raise


class Fetch:
    """One recording. The keyword arguments are for tests, which have no Internet."""

    def __init__(
        self,
        wish: Wish,
        file: int,
        *,
        resolve: Callable[[Target], list[str]] = addresses.resolve,
        acceptable: Callable[[str], bool] = addresses.is_public,
        ports: Sequence[int] = (HTTPS,),
        context: ssl.SSLContext | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._wish = wish
        self._file = file
        self._resolve = resolve
        self._acceptable = acceptable
        self._ports = ports
        self._context = context or ssl.create_default_context()
        self._pause_s = first_pause_s
        self._have = 0
        self._validator = ""  # a strong ETag or a date: what If-Range compares

    def run(self) -> Outcome:
        """Fetch it, whatever happens: the outcome says how it went."""
        try:
            with _deadline(self._wish.timeout_s):
                self._try_and_try_again()
        except FetchError as error:
            return Outcome(code=error.code, message=str(error))
        except RefusedError as error:
            return Outcome(code=Code.NOT_ALLOWED, message=str(error))
        except DeadlineError:
            message = f"not fetched within url.timeout ({self._wish.timeout_s:g} s)"
            return Outcome(code=Code.UNAVAILABLE, message=message)
        return Outcome(bytes=self._have)

    def _try_and_try_again(self) -> None:
        for number in range(1, MAX_TRIES + 1):
            try:
                self._try()
            except (BrokenError, OSError, http.client.HTTPException) as error:
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise FetchError(Code.UNAVAILABLE, f"certificate: {error}") from error
                if number == MAX_TRIES:
                    raise FetchError(
                        Code.UNAVAILABLE, f"{number} tries failed, the last one with: {error!r}"
                    ) from error
                time.sleep(self._pause_s)
                self._pause_s *= 2
            else:
                return

    def _try(self) -> None:
        """Follow the redirects to the recording and take it."""
        url = self._wish.url
        for _ in range(MAX_REDIRECTS + 1):
            target = addresses.parse(url, self._wish.allow_hosts, self._ports)
            connection = _Connection(target, self._checked_address(target), self._context)
            with contextlib.closing(connection):
                connection.request("GET", target.path, headers=self._headers())
                response = connection.getresponse()
                if response.status not in _REDIRECTS:
                    self._take(response)
                    return
                place = response.getheader("Location")
                if not place:
                    raise FetchError(Code.UNAVAILABLE, "a redirect that leads nowhere")
                url = urljoin(url, place)
        raise FetchError(Code.UNAVAILABLE, f"more than {MAX_REDIRECTS} redirects")

    def _checked_address(self, target: Target) -> str:
        """The first address of the host, when all of them are public."""
        found = self._resolve(target)
        if not found:
            raise BrokenError(f"{target.host} has no address")
        for address in found:
            if not self._acceptable(address):
                raise RefusedError(f"{target.host} has the address {address}, which is not public")
        return found[0]

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "sttd", "Connection": "close"}
        if self._have and self._validator:
            headers |= {"Range": f"bytes={self._have}-", "If-Range": self._validator}
        return headers

    def _take(self, response: http.client.HTTPResponse) -> None:
        self._check_status(response)
        if response.getheader("Content-Encoding", "identity").lower() != "identity":
            raise FetchError(Code.UNDECODABLE, "the server sends it compressed, unasked")
        resumed = response.status == http.client.PARTIAL_CONTENT
        begun = self._have if resumed else 0
        if resumed and not response.getheader("Content-Range", "").startswith(f"bytes {begun}-"):
            raise FetchError(Code.UNAVAILABLE, "the server resumes at another place than asked")
        os.ftruncate(self._file, begun)
        self._have = begun
        self._validator = _validator_of(response)
        announced = response.length  # what is still to come; None where it is not said
        self._check_room(begun + (announced or 0))
        self._stream(response)
        if announced is not None and self._have - begun != announced:
            raise BrokenError(f"{self._have - begun} of {announced} bytes came")

    def _check_status(self, response: http.client.HTTPResponse) -> None:
        status = response.status
        said = f"the server says {status} {response.reason}".strip()
        if status in _AGAIN:
            raise BrokenError(said)
        if status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and self._have:
            self._have, self._validator = 0, ""
            raise BrokenError(said)
        if status == http.client.PARTIAL_CONTENT and self._have and self._validator:
            return
        if status != http.client.OK:
            raise FetchError(Code.UNAVAILABLE, said)

    def _check_room(self, size: int) -> None:
        """Whether so many bytes in all are allowed, and there is room for what is missing."""
        if size > self._wish.max_bytes:
            raise FetchError(
                Code.TOO_LARGE,
                f"{size} bytes or more exceed limits.max_file_size, {self._wish.max_bytes}",
            )
        disk = os.fstatvfs(self._file)
        if disk.f_bavail * disk.f_frsize - (size - self._have) < self._wish.keep_free:
            raise FetchError(
                Code.ENVIRONMENT, f"no room for {size} bytes above limits.min_free_disk"
            )

    def _stream(self, response: http.client.HTTPResponse) -> None:
        checked = self._have
        while piece := response.read1(PIECE):
            if self._have + len(piece) > self._wish.max_bytes or self._have - checked > 1 << 24:
                self._check_room(self._have + len(piece))
                checked = self._have
            view = memoryview(piece)
            while view:
                written = os.pwrite(self._file, view, self._have)
                self._have += written
                view = view[written:]


def _validator_of(response: http.client.HTTPResponse) -> str:
    """What If-Range may compare (RFC 9110, 13.1.5): a strong ETag, else nothing."""
    tag = response.getheader("ETag", "")
    return tag if tag.startswith('"') else ""


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise DeadlineError when it takes longer, whatever is being waited for."""

    def expire(_number: int, _frame: object) -> None:
        raise DeadlineError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def confine(wish: Wish) -> None:
    """Take away what fetching does not need."""
    linux.die_with_parent()
    if os.getppid() != wish.supervisor:  # it died before that: nobody waits for the recording
        sys.exit(1)
    linux.no_new_privileges()
    linux.not_dumpable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error of write instead
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (wish.max_bytes, wish.max_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def main(make: Callable[[Wish, int], Fetch] = Fetch) -> None:
    """Read a wish, fetch it, say how it went."""
    wish = msgspec.json.decode(sys.stdin.buffer.read(), type=Wish)
    confine(wish)
    outcome = make(wish, sys.stdout.fileno()).run()
    outcome = msgspec.structs.replace(outcome, message=outcome.message[:MAX_MESSAGE])
    sys.stderr.buffer.write(msgspec.json.encode(outcome) + b"\n")


if __name__ == "__main__":
    main()
