"""Whether an address can be reached: name, network, proxy, TLS, clock. One finding for each.

Plain sockets, no SDK: the SDK says "connection failed" to all of these. Sends one HTTP request
that any web server answers, and no credential.
"""

from __future__ import annotations

import base64
import dataclasses
import email.utils
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator

from sttd.engines.azure.settings import Settings

CONNECT_LIMIT_S = 10.0
CLOCK_LIMIT_S = 240.0  # Entra allows five minutes between clocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is right, or wrong with what to do about it."""

    ok: bool
    step: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n    {self.remedy}" if self.remedy else ""
        return f"{'ok   ' if self.ok else 'WRONG'} {self.step}: {self.message}{remedy}"


class StepFailedError(Exception):
    """Nothing after this step can be right."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(findings[-1].message)
        self.findings = findings


@dataclasses.dataclass(frozen=True)
class Address:
    """Where the service is."""

    host: str
    port: int
    tls: bool


def address_of(settings: Settings) -> Address:
    """What the SDK will connect to."""
    if settings.region:
        return Address(f"{settings.region}.stt.speech.microsoft.com", 443, tls=True)
    url = urllib.parse.urlsplit(settings.endpoint or settings.host)
    tls = url.scheme in ("wss", "https")
    return Address(url.hostname or "", url.port or (443 if tls else 80), tls=tls)


def reach(address: Address, proxy: str = "", password: str = "") -> list[Finding]:
    """The findings, all good. Raises StepFailedError with those up to the first that is not."""
    findings: list[Finding] = []
    try:
        findings.extend(_steps(address, proxy, password))
    except StepFailedError as failed:
        raise StepFailedError([*findings, *failed.findings]) from None
    return findings


def _steps(address: Address, proxy: str, password: str) -> Iterator[Finding]:
    url = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    first = Address(url.hostname or "", url.port or 0, tls=False) if proxy else address
    yield _name(first, "proxy" if proxy else "name")
    line = _connected(first, "proxy" if proxy else "network")
    with line:
        yield Finding(ok=True, step="network", message=f"{first.host}:{first.port} accepts")
        if proxy:
            _tunnel(line, address, url.username or "", password)
            yield Finding(
                ok=True, step="proxy", message=f"the proxy lets through to {address.host}"
            )
        if not address.tls:
            return
        with _secured(line, address) as secured:
            yield Finding(ok=True, step="tls", message=f"{address.host} has a trusted certificate")
            yield from _clock(secured, address)


def _name(address: Address, step: str) -> Finding:
    try:
        socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _failed(
            step,
            f"the name {address.host} is not known: {error.strerror or error}",
            "check region or endpoint for typing errors, and this machine's DNS (a private "
            "endpoint needs its private DNS zone)",
        ) from None
    return Finding(ok=True, step=step, message=f"the name {address.host} is known")


def _connected(address: Address, step: str) -> socket.socket:
    try:
        return socket.create_connection((address.host, address.port), CONNECT_LIMIT_S)
    except OSError as error:
        raise _failed(
            step,
            f"{address.host}:{address.port} cannot be reached: {error.strerror or error}",
            f"let this machine out to TCP port {address.port} (firewall, network security group), "
            "or set proxy; for a container, check that it runs",
        ) from None


def _tunnel(line: socket.socket, address: Address, user: str, password: str) -> None:
    """Ask the proxy for a way through (HTTP CONNECT, RFC 9110, 9.3.6)."""
    target = f"{address.host}:{address.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if user:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {secret}")
    status = _asked(line, lines)[0]
    if " 200" not in status:
        remedy = "allow this address in the proxy, and check proxy and proxy_credential"
        raise _failed("proxy", f"the proxy refuses {target}: {status}", remedy)


def _secured(line: socket.socket, address: Address) -> ssl.SSLSocket:
    try:
        context = ssl.create_default_context()
        return context.wrap_socket(line, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        raise _failed(
            "tls",
            f"the certificate of {address.host} is not trusted: {error.verify_message}",
            "if a proxy inspects TLS, install its authority with update-ca-certificates; "
            "if the certificate seems out of date, check this machine's clock",
        ) from None
    except OSError as error:
        remedy = "something between here and the service breaks TLS: a firewall, or a wrong port"
        raise _failed("tls", f"no TLS with {address.host}: {error}", remedy) from None


def _clock(line: ssl.SSLSocket, address: Address) -> Iterator[Finding]:
    """Compare clocks by the Date of an answer, where there is one (RFC 9110, 6.6.1)."""
    asked_at = time.time()
    try:
        answer = _asked(line, ["HEAD / HTTP/1.1", f"Host: {address.host}", "Connection: close"])
    except StepFailedError:
        return
    dates = [item[5:].strip() for item in answer if item.lower().startswith("date:")]
    try:
        off_s = asked_at - email.utils.parsedate_to_datetime(dates[0]).timestamp()
    except (IndexError, ValueError):
        return
    if abs(off_s) > CLOCK_LIMIT_S:
        direction = "fast" if off_s > 0 else "slow"
        message = f"this machine's clock is {abs(off_s):.0f} s {direction}"
        raise _failed("clock", message, "set the clock (timedatectl set-ntp true)")
    yield Finding(ok=True, step="clock", message="this machine's clock is right")


def _asked(line: socket.socket, request: list[str]) -> list[str]:
    """Send a request and return the lines of the answer's head."""
    try:
        line.sendall(("\r\n".join(request) + "\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 65536:
            more = line.recv(4096)
            if not more:
                break
            head += more
    except OSError as error:
        raise _failed("network", f"the connection broke: {error}", "try again") from None
    return head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")


def _failed(step: str, message: str, remedy: str) -> StepFailedError:
    return StepFailedError([Finding(ok=False, step=step, message=message, remedy=remedy)])
