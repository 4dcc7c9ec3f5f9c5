"""`sttd check-engine` for Azure: each thing that can be wrong is named, with what to do."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sttd.engines.azure import check as check_module
from sttd.engines.azure.check import Finding, check
from tests.speech_service.behaviour import Access, Behaviour
from tests.speech_service.certificates import self_signed
from tests.speech_service.identity import running_identity
from tests.speech_service.proxy import running_proxy
from tests.speech_service.running import Running, running_service
from tests.support.azure import HURRY, Recording, engine_for, transcribe, whole


@pytest.fixture
def service() -> Iterator[Running]:
    with running_service() as running:
        yield running


def checked(host: str, **options: Any) -> list[Finding]:
    findings = check({"host": host, "auth": "none", "properties": HURRY} | options)
    assert all(finding.ok for finding in findings[:-1]), findings
    return findings


def problem(host: str, **options: Any) -> Finding:
    finding = checked(host, **options)[-1]
    assert not finding.ok
    return finding


def test_a_service_that_transcribes_is_all_right(service: Running) -> None:
    findings = checked(service.host)

    assert [finding.step for finding in findings] == [
        "configuration",
        "name",
        "network",
        "credentials",
        "transcription",
    ]
    assert findings[-1].ok


def test_a_finding_reads_as_a_line_with_its_remedy_beneath() -> None:
    good = Finding(ok=True, step="name", message="known")
    bad = Finding(ok=False, step="tls", message="not trusted", remedy="install it")

    assert str(good) == "ok    name: known"
    assert str(bad) == "WRONG tls: not trusted\n    install it"


def test_a_configuration_that_is_wrong_is_said_first() -> None:
    (finding,) = check({"regoin": "westeurope"})

    assert finding.step == "configuration"
    assert "did you mean 'region'" in finding.message


@pytest.mark.parametrize("host", ["ws://a..b", "ws://127.0.0.1:99999", "ws://[::1"])
def test_an_address_with_a_typing_error_is_a_finding_too(host: str) -> None:
    (finding,) = check({"host": host, "auth": "none"})

    assert not finding.ok
    assert finding.step == "configuration"


def test_a_check_ends_where_jobs_may_wait_without_end(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "LONGEST_S", 0.5)
    service.service.plan = [Behaviour(hang_upgrade=True)]
    finding = problem(service.host, stall_timeout=0)

    assert finding.step == "transcription"


def test_a_name_that_nobody_knows() -> None:
    finding = problem("wss://nowhere.invalid")

    assert finding.step == "name"
    assert "nowhere.invalid" in finding.message
    assert "DNS" in finding.remedy


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    finding = problem(f"ws://127.0.0.1:{port}")

    assert finding.step == "network"
    assert "firewall" in finding.remedy


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    context, _ = self_signed(tmp_path)
    with running_service(tls=context) as service:
        finding = problem(service.host)

    assert finding.step == "tls"
    assert "update-ca-certificates" in finding.remedy


def test_a_certificate_that_has_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, certificate = self_signed(tmp_path, expired=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with running_service(tls=context) as service:
        finding = problem(service.host)

    assert finding.step == "tls"
    assert "expired" in finding.message


def test_something_that_does_not_speak_tls(service: Running) -> None:
    finding = problem(service.host.replace("ws://", "wss://"))

    assert finding.step == "tls"


def test_a_key_that_is_nowhere(service: Running) -> None:
    finding = problem(service.host, auth="key", key="speech-key")

    assert finding.step == "credentials"
    assert "STTD_CREDENTIAL_SPEECH_KEY" in finding.message


def test_a_key_that_is_refused(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STTD_CREDENTIAL_SPEECH_KEY", "wrong")
    service.service.access = Access(keys=("right",))

    finding = problem(service.host, auth="key", key="speech-key")

    assert finding.step == "transcription"
    assert "region" in finding.remedy
    assert "wrong" not in finding.message


def test_an_identity_without_the_role(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    service.service.plan = [Behaviour(status=403)]
    with running_identity() as identity:
        for name, value in identity.environment.items():
            monkeypatch.setenv(name, value)
        finding = problem(service.host, auth="entra", credential="managed-identity")

    assert finding.step == "transcription"
    assert "Cognitive Services Speech User" in finding.remedy


def test_a_machine_without_an_identity(service: Running) -> None:
    finding = problem(service.host, auth="entra", credential="environment")

    assert finding.step == "credentials"
    assert "managed identity" in finding.remedy


@pytest.mark.parametrize(
    ("status", "words"), [(429, "max_sessions"), (400, "languages"), (404, "Speech resource")]
)
def test_a_service_that_refuses(service: Running, status: int, words: str) -> None:
    service.service.plan = [Behaviour(status=status)]

    finding = problem(service.host)

    assert finding.step == "transcription"
    assert words in finding.remedy


def test_a_way_through_a_proxy(service: Running) -> None:
    with running_proxy() as proxy:
        findings = checked(service.host, proxy=f"http://127.0.0.1:{proxy.port}")

    assert findings[-1].ok
    assert len(proxy.asked) == 2
    assert all(f"CONNECT 127.0.0.1:{service.service.port}" in head for head in proxy.asked)


def test_a_proxy_that_refuses(service: Running) -> None:
    with running_proxy(allowed=False) as proxy:
        finding = problem(service.host, proxy=f"http://127.0.0.1:{proxy.port}")

    assert finding.step == "proxy"
    assert "403" in finding.message


def test_a_recording_goes_through_a_proxy_that_wants_a_password(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STTD_CREDENTIAL_PROXY_PASSWORD", "p4ss")
    with running_proxy() as proxy:
        engine = engine_for(
            service.host,
            proxy=f"http://joe@127.0.0.1:{proxy.port}",
            proxy_credential="proxy-password",
        )
        segments = transcribe(engine, Recording(3.0))

    assert whole(segments, 3.0)
    assert "Basic am9lOnA0c3M=" in proxy.asked[0]


@contextlib.contextmanager
def web_server(context: ssl.SSLContext, date: str) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(404)
            self.send_header("Date", date)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_clock_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with web_server(context, "Sat, 01 Jan 2000 00:00:00 GMT") as port:
        finding = problem(f"wss://127.0.0.1:{port}")

    assert finding.step == "clock"
    assert "fast" in finding.message
    assert "timedatectl" in finding.remedy
