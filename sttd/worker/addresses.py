"""Where a recording may be fetched from: addresses of the Internet, of hosts that are allowed.

Against requests that are made to reach what only this machine can reach (SSRF). Pure but for the
one look-up; opens no connection.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

HTTPS = 443
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
# What `is_global` takes for public, at least in some versions of Python, and no recording is at.
_SPECIAL = tuple(
    ipaddress.ip_network(each)
    for each in (
        "168.63.129.16/32",  # the platform of an Azure machine, which no other can reach
        "192.0.0.0/24",  # IETF protocol assignments; a cloud's metadata service among them
        "192.88.99.0/24",  # the relays of 6to4, deprecated (RFC 7526)
        "fec0::/10",  # site-local, deprecated (RFC 3879)
        "3fff::/20",  # documentation (RFC 9637)
        "5f00::/16",  # segment routing (RFC 9602)
    )
)
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, 2.5.5.1; deprecated
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedError(Exception):
    """This address is not to be fetched from; trying again changes nothing."""


class Target(msgspec.Struct, frozen=True):
    """A checked URL: what to connect to and what to ask for."""

    host: str  # as it is named in SNI and in the Host header
    port: int
    path: str  # with its query


def parse(url: str, allow_hosts: Sequence[str], ports: Sequence[int] = (HTTPS,)) -> Target:
    """The parts of an https URL of an allowed host; raises RefusedError."""
    if not url.isascii() or any(c <= " " or c in "\x7f\\" for c in url):
        raise RefusedError("the address has characters that must be percent-encoded")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or HTTPS
    except ValueError as error:
        raise RefusedError(f"the address cannot be read: {error}") from error
    if parts.scheme != "https":
        raise RefusedError("only https addresses are fetched")
    if parts.username is not None or parts.password is not None:
        raise RefusedError("an address with a user name or a password is not fetched")
    if not host or not is_allowed(host, allow_hosts):
        raise RefusedError(f"{host or 'no host'}: not one of url.allow_hosts")
    if port not in ports:
        raise RefusedError(f"port {port} is not allowed")
    path = parts.path or "/"
    return Target(host, port, f"{path}?{parts.query}" if parts.query else path)


def is_allowed(host: str, allow_hosts: Sequence[str]) -> bool:
    """Whether the host is one of them; `*.example.com` stands for all below example.com."""
    host = host.lower()
    return any(
        host.endswith(each[1:]) and len(host) > len(each) - 1
        if each.startswith("*.")
        else host == each
        for each in (one.lower() for one in allow_hosts)
    )


def resolve(target: Target) -> list[str]:
    """All addresses of the host, by one look-up; raises OSError (socket.gaierror)."""
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def is_public(address: str) -> bool:
    """Whether it is an address of the Internet, an IPv4 one inside it included."""
    try:
        found: Address = ipaddress.ip_address(address)
    except ValueError:  # one with a scope: fe80::1%eth0
        return False
    return _is_global(found) and all(map(_is_global, _inside(found)))


def _is_global(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return True  # as far as the address inside it is
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inside(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that this one leads to by translation or by a tunnel."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inside = [each for each in (address.ipv4_mapped, address.sixtofour) if each is not None]
    inside += address.teredo or ()
    if address in _NAT64 or address in _V4_COMPATIBLE:
        inside.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return inside
