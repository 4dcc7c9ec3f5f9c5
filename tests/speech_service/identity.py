"""A managed-identity endpoint on loopback: hands out tokens, counts them, fails on request.

Speaks the form of Azure App Service and Functions (IDENTITY_ENDPOINT, IDENTITY_HEADER) and that of
a virtual machine's metadata service (AZURE_POD_IDENTITY_AUTHORITY_HOST moves azure-identity's idea
of 169.254.169.254 to loopback).
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

SECRET_HEADER = "only-this-machine-knows"


def fake_jwt(number: int, expires_at: float) -> str:
    """Something of a token's shape, unsigned; each number gives another."""
    parts = ({"alg": "none"}, {"exp": int(expires_at), "jti": number}, {"sig": number})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts)
    return ".".join(part.rstrip(b"=").decode() for part in encoded)


class Identity:
    """The endpoint. `life_s` is the life of tokens handed out from now on."""

    def __init__(self) -> None:
        self.life_s = 3600.0
        self.status = 200
        self.tokens: list[str] = []
        self.asked: list[dict[str, list[str]]] = []
        self.same = False  # hand out the last one again, as the real service does for hours
        self.answers = threading.Event()  # while it is cleared, nobody gets an answer
        self.answers.set()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, name="identity")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What App Service would set."""
        return {"IDENTITY_ENDPOINT": f"{self.url}/msi/token", "IDENTITY_HEADER": SECRET_HEADER}

    def start(self) -> None:
        """Listen."""
        self._thread.start()

    def stop(self) -> None:
        """Go away."""
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """Status and body for one request."""
        self.asked.append(query)
        self.answers.wait()
        if self.status != 200:
            return self.status, {"error": "scripted", "error_description": "scripted refusal"}
        expires_at = int(time.time() + self.life_s)
        if not (self.same and self.tokens):
            self.tokens.append(fake_jwt(len(self.tokens), expires_at))
        return 200, {
            "access_token": self.tokens[-1],
            "expires_on": str(expires_at),
            "expires_in": str(int(self.life_s)),
            "resource": query.get("resource", [""])[0],
            "token_type": "Bearer",
        }


@contextlib.contextmanager
def running_identity() -> Iterator[Identity]:
    """An endpoint for the length of a block."""
    identity = Identity()
    identity.start()
    try:
        yield identity
    finally:
        identity.stop()


def _handler_of(identity: Identity) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("X-IDENTITY-HEADER") == SECRET_HEADER
            if not known and self.headers.get("Metadata") != "true":
                self.send_error(401)
                return
            status, body = identity.answer(parse_qs(urlsplit(self.path).query))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # who asked has given up
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Silence."""

    return Handler
