"""Microsoft Entra's token endpoint on loopback, for clients that only know its public name.

They reach it through a proxy of ours that connects everybody with it, and trust its certificate
for login.microsoftonline.com. Speaks what MSAL asks: the tenant's OpenID configuration, instance
discovery, and the client credentials grant of OAuth 2.0 (RFC 6749, 4.4; with an assertion
RFC 7523, 2.2). It checks nothing: what was sent is in `asked`.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.speech_service.certificates import self_signed
from tests.speech_service.identity import fake_jwt
from tests.speech_service.proxy import running_proxy

HOST = "login.microsoftonline.com"
LIFE_S = 3600


class Authority:
    """`asked` has the form of each request for a token, `tokens` what was handed out."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[dict[str, str]] = []
        self.tokens: list[str] = []
        self.status = 200
        tls, self.certificate = self_signed(folder, names=(HOST,))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)

    def metadata(self, path: str) -> dict[str, Any]:
        """What is told of a tenant, or of all authorities."""
        if path.startswith("/common/discovery/instance"):
            alias = {"preferred_network": HOST, "preferred_cache": HOST, "aliases": [HOST]}
            return {"api-version": "1.1", "metadata": [alias]}
        tenant = f"https://{HOST}/{path.split('/')[1]}"
        return {
            "issuer": f"{tenant}/v2.0",
            "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{tenant}/oauth2/v2.0/token",
        }

    def grant(self, form: dict[str, str]) -> dict[str, Any]:
        """The answer to a request for a token."""
        self.asked.append(form)
        if self.status != 200:
            return {"error": "invalid_client", "error_description": "AADSTS7000215: scripted"}
        self.tokens.append(fake_jwt(len(self.tokens), time.time() + LIFE_S))
        return {"token_type": "Bearer", "expires_in": LIFE_S, "access_token": self.tokens[-1]}


@contextlib.contextmanager
def running_authority(folder: Path) -> Iterator[tuple[Authority, dict[str, str]]]:
    """An authority for the length of a block, and the environment that leads to it."""
    authority = Authority(folder)
    with authority.server as server, running_proxy(to=server.server_port) as proxy:
        thread = threading.Thread(target=server.serve_forever, name="authority")
        thread.start()
        try:
            yield (
                authority,
                {
                    "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}",
                    "NO_PROXY": "",
                    "REQUESTS_CA_BUNDLE": str(authority.certificate),
                },
            )
        finally:
            server.shutdown()
            thread.join()


def _handler_of(authority: Authority) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, authority.metadata(urlsplit(self.path).path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._answer(authority.status, authority.grant({"path": self.path, **form}))

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Silence."""

    return Handler
