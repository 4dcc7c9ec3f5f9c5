"""A client's side of the conversation without a socket: what to send, and how long to be patient.

Shared by the two connections, so that a daemon that is slow, hangs, restarts or is gone is told
apart in the same way. Does no I/O and reads no clock: `now` is monotonic seconds.
"""

from __future__ import annotations

import msgspec

from sttd.client.errors import DaemonUnavailable, Refused
from sttd.wire import replies, requests
from sttd.wire.codes import Code
from sttd.wire.replies import Error, Reply
from sttd.wire.requests import Request

PATIENCE_S = 2.0  # of silence, from a daemon that has answered before
FIRST_PATIENCE_S = 1.3  # for the first answer: with an interpreter's start it stays within 2 s
RESTART_S = 30.0  # for a daemon that hung up on us: it may be starting again
PING_S = 0.4  # how often a request that takes its time is accompanied by a question
PING = b"ping"


class Exchange:
    """One request under way."""

    __slots__ = ("began", "correlation", "parts", "ping_at")

    def __init__(self, correlation: bytes, parts: list[bytes], now: float) -> None:
        self.correlation = correlation
        self.parts = parts  # send them at first, and again after the connection broke
        self.began = now
        self.ping_at = now + PING_S


class Talk:
    """What is known of the daemon at the other end. One for each connection."""

    def __init__(self, endpoint: str, patience_s: float | None, restart_s: float) -> None:
        """`patience_s`: the caller's, for every answer; None: ours, less for the first."""
        self.endpoint = endpoint
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._first_s = FIRST_PATIENCE_S if patience_s is None else patience_s
        self._restart_s = max(restart_s, self._patience_s)
        self._met = False  # it has answered
        self._gone = False  # it hung up, and has not answered since
        self._heard = float("-inf")
        self._serial = 0

    def begin(self, request: Request, data: bytes | None, now: float) -> Exchange:
        """A request, with its binary frame where it has one."""
        self._serial += 1
        correlation = self._serial.to_bytes(8, "big")
        parts = [correlation, requests.encode(request)] + ([data] if data is not None else [])
        return Exchange(correlation, parts, now)

    def heard(self, now: float) -> None:
        """Something came from the daemon, whatever it was."""
        self._met, self._gone, self._heard = True, False, now

    def lost(self) -> None:
        """The connection broke, and what was under way in it is gone."""
        self._gone = True

    def pause_s(self, exchange: Exchange, now: float) -> float:
        """How long to listen before `ping`; not above 0: the daemon is given up."""
        left = max(self._heard, exchange.began) + self._limit_s() - now
        return min(left, max(0.001, exchange.ping_at - now))

    def ping(self, exchange: Exchange, now: float) -> list[bytes] | None:
        """A question to send beside a request that takes its time; None: not yet."""
        if now < exchange.ping_at:
            return None
        exchange.ping_at = now + PING_S
        return [PING, requests.encode(requests.Version())]

    def silence(self) -> DaemonUnavailable:
        """The error for a daemon that is given up."""
        return DaemonUnavailable(
            f"no answer from the daemon at {self.endpoint} for {self._limit_s():g} s",
            "see `systemctl status sttd`",
        )

    def _limit_s(self) -> float:
        if not self._met:
            return self._first_s
        return self._restart_s if self._gone else self._patience_s


def read(body: bytes) -> Reply:
    """The reply in a frame. Raises Refused for one that is an Error, or not understood."""
    try:
        reply = replies.decode(body)
    except msgspec.DecodeError as error:
        raise _mismatch(f"the daemon's answer is not understood ({error})") from error
    if isinstance(reply, Error):
        raise Refused(reply.code, reply.message, reply.hint)
    return reply


def unexpected(request: Request, reply: Reply) -> Refused:
    """The error for a reply of another kind than the request's."""
    return _mismatch(f"{requests.verb(request)} was answered with {type(reply).__name__}")


def _mismatch(message: str) -> Refused:
    return Refused(Code.VERSION_MISMATCH, message, "install the same version of sttd on both sides")
