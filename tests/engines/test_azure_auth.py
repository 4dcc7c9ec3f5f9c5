"""Keys and tokens: where they come from, how often they are asked for, who may see them."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sttd.engines import AuthenticationError, EngineUnavailableError, TransientEngineError
from sttd.engines.azure import broker
from sttd.engines.azure.grants import Grant, expiry_of
from sttd.engines.azure.settings import read_settings
from sttd.engines.azure.sources import BROKER_VARIABLE, TOKEN_VARIABLE, BrokerSource, OwnSource
from sttd.engines.helpers import HELPERS
from tests.speech_service.authority import Authority, running_authority
from tests.speech_service.behaviour import Access, Behaviour
from tests.speech_service.identity import Identity, fake_jwt, running_identity
from tests.speech_service.running import Running, running_service
from tests.support.azure import Recording, engine_for, transcribe, whole
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
RESOURCE = "/subscriptions/1/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"
ENTRA: dict[str, Any] = {"auth": "entra", "credential": "managed-identity"}
NOBODY = ("STTD_HELPER_SOCKET", "AZURE_ACCESS_TOKEN", "CREDENTIALS_DIRECTORY")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with running_service() as service:
        yield service


@pytest.fixture
def service(running: Running) -> Running:
    running.service.plan = [Behaviour()]
    running.service.access = Access()
    running.counters.sessions.clear()
    return running


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[Identity]:
    for name in NOBODY:
        monkeypatch.delenv(name, raising=False)
    with running_identity() as endpoint:
        for name, value in endpoint.environment.items():
            monkeypatch.setenv(name, value)
        yield endpoint


@contextlib.contextmanager
def running_broker(path: Path, **options: object) -> Iterator[BrokerSource]:
    """The helper as the supervisor starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sttd.engines.azure.broker", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    section = {"host": "ws://127.0.0.1:1"} | options
    process.stdin.write(msgspec.json.encode(section) + b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"ready\n"
    try:
        yield BrokerSource(str(path))
    finally:
        process.stdin.close()
        assert process.wait(10) == 0
        process.stdout.close()
    assert not path.exists()


def tokens_seen(service: Running) -> list[str]:
    return [token for session in service.counters.sessions.values() for token in session.tokens]


# -- keys --------------------------------------------------------------------------------------
def test_a_key_is_found_by_its_credentials_name(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STTD_CREDENTIAL_SPEECH_KEY", "k1")
    service.service.access = Access(keys=("k1",))

    engine = engine_for(service.host, auth="key", key="speech-key")

    assert whole(transcribe(engine, Recording(3.0)), 3.0)


def test_a_key_that_was_replaced_is_read_anew(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "speech-key").write_text("k1")
    engine = engine_for(service.host, auth="key", key="speech-key")
    service.service.access = Access(keys=("k2",))
    with pytest.raises(AuthenticationError):
        transcribe(engine, Recording(1.0))

    (tmp_path / "speech-key").write_text("k2")

    assert whole(transcribe(engine, Recording(1.0)), 1.0)


# -- tokens ------------------------------------------------------------------------------------
def test_a_managed_identitys_token_opens_the_door(service: Running, identity: Identity) -> None:
    engine = engine_for(service.host, **ENTRA)

    assert whole(transcribe(engine, Recording(3.0)), 3.0)

    assert tokens_seen(service) == identity.tokens
    assert identity.asked[0]["resource"] == ["https://cognitiveservices.azure.com"]


def test_a_user_assigned_identity_is_asked_for_by_its_client_id(identity: Identity) -> None:
    settings = read_settings({"host": "ws://h", **ENTRA, "client_id": "0a1b"})

    assert OwnSource(settings).get().value == identity.tokens[0]
    assert "0a1b" in str(identity.asked[0])


def test_the_metadata_service_of_a_virtual_machine_is_asked_where_nothing_else_is_named(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in identity.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", identity.url)

    for credential in ("managed-identity", "default"):
        settings = read_settings({"host": "ws://h", **ENTRA, "credential": credential})
        assert OwnSource(settings).get().value == identity.tokens[-1]


def test_the_command_line_interface_is_asked_where_that_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: Identity
) -> None:
    token, ends = fake_jwt(9, time.time() + 600), int(time.time() + 600)
    answer = {"accessToken": token, "expires_on": ends, "expiresOn": "2099-01-01 00:00:00.000000"}
    az = tmp_path / "az"
    az.write_text(f"#!/bin/sh\necho \"$@\" >{tmp_path}/asked\necho '{json.dumps(answer)}'\n")
    az.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    grant = OwnSource(read_settings({"host": "ws://h", **ENTRA, "credential": "cli"})).get()

    assert (grant.value, grant.expires_at) == (token, ends)
    assert "https://cognitiveservices.azure.com" in (tmp_path / "asked").read_text()
    assert not identity.asked


TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Authority]:
    for name in NOBODY:
        monkeypatch.delenv(name, raising=False)
    with running_authority(tmp_path) as (one, environment):
        names = {**environment, "AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT}
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        yield one


def token_of(credential: str, **options: object) -> str:
    settings = read_settings({"host": "ws://h", **ENTRA, "credential": credential, **options})
    return OwnSource(settings).get().value


@pytest.mark.parametrize("credential", ["workload-identity", "default"])
def test_a_workload_is_known_by_the_token_in_its_file_which_is_read_each_time(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credential: str
) -> None:
    file = tmp_path / "federated"
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    for assertion in ("from-the-cluster", "after-its-rotation"):
        file.write_text(assertion)

        assert token_of(credential) == authority.tokens[-1]

        asked = authority.asked[-1]
        assert asked["path"] == f"/{TENANT}/oauth2/v2.0/token"
        assert asked["grant_type"] == "client_credentials"
        assert asked["client_id"] == CLIENT
        assert asked["client_assertion"] == assertion
        assert asked["scope"] == "https://cognitiveservices.azure.com/.default"


def test_a_workload_may_be_told_which_client_it_is(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "federated").write_text("from-the-cluster")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "federated"))

    assert token_of("workload-identity", client_id="another") == authority.tokens[0]
    assert authority.asked[0]["client_id"] == "another"


@pytest.mark.parametrize("credential", ["environment", "default"])
def test_a_client_secret_in_the_environment_becomes_a_token_that_opens_the_door(
    service: Running, authority: Authority, monkeypatch: pytest.MonkeyPatch, credential: str
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "hunter2")

    engine = engine_for(service.host, auth="entra", credential=credential)

    assert whole(transcribe(engine, Recording(1.0)), 1.0)
    assert tokens_seen(service) == authority.tokens
    assert authority.asked[0]["client_secret"] == "hunter2"
    assert authority.asked[0]["scope"] == "https://cognitiveservices.azure.com/.default"


@pytest.mark.parametrize("credential", ["environment", "workload-identity"])
def test_a_client_that_the_authority_refuses_stops_the_job_with_its_reason(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credential: str
) -> None:
    authority.status = 401
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "hunter2")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "federated"))
    (tmp_path / "federated").write_text("hunter3")

    with pytest.raises(AuthenticationError, match="AADSTS7000215") as refused:
        token_of(credential)
    assert "hunter" not in str(refused.value)


@pytest.mark.parametrize("credential", ["environment", "workload-identity"])
def test_a_credential_that_lacks_its_environment_says_which(
    identity: Identity, credential: str
) -> None:
    settings = read_settings({"host": "ws://h", **ENTRA, "credential": credential})

    with pytest.raises(AuthenticationError, match=r"(?i)environment|client_id|tenant"):
        OwnSource(settings).get()
    assert not identity.asked


def test_on_a_regional_address_the_token_is_composed_with_the_resource(
    identity: Identity,
) -> None:
    settings = read_settings({"region": "westeurope", "resource_id": RESOURCE, **ENTRA})

    assert OwnSource(settings).get().value == f"aad#{RESOURCE}#{identity.tokens[0]}"


def test_a_regional_address_without_a_resource_says_what_is_missing(identity: Identity) -> None:
    settings = read_settings({"region": "westeurope", **ENTRA})

    with pytest.raises(AuthenticationError, match="resource_id"):
        OwnSource(settings).get()
    assert identity.asked


def test_a_clock_that_is_set_back_after_a_failure_holds_no_token_up(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = OwnSource(read_settings({"host": "ws://h", **ENTRA}))
    identity.life_s = 86_400.0
    identity.status = 400
    with pytest.raises(AuthenticationError):
        source.get()
    identity.status = 200
    right = time.time

    monkeypatch.setattr(time, "time", lambda: right() - 7200)

    assert source.get().value == identity.tokens[0]
    assert source.get(source.get().fingerprint).value == identity.tokens[0]  # fetched just now
    monkeypatch.setattr(time, "time", lambda: right() - 14_400)
    assert source.get(source.get().fingerprint).value == identity.tokens[1]


def test_an_identity_that_refuses_stops_the_job_before_it_connects(
    service: Running, identity: Identity
) -> None:
    identity.status = 400
    before = service.counters.upgrades

    with pytest.raises(AuthenticationError, match="no token"):
        transcribe(engine_for(service.host, **ENTRA), Recording(3.0))

    assert service.counters.upgrades == before


def test_a_token_given_in_the_environment_is_used_as_it_is(
    service: Running, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = fake_jwt(7, time.time() + 600)
    monkeypatch.setenv("AZURE_ACCESS_TOKEN", given)

    transcribe(engine_for(service.host, **ENTRA), Recording(1.0))

    assert tokens_seen(service) == [given]
    assert not identity.asked


def test_a_given_token_that_has_expired_is_no_token(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_ACCESS_TOKEN", fake_jwt(7, time.time() - 1))

    with pytest.raises(AuthenticationError, match="expired"):
        OwnSource(read_settings({"host": "ws://h", **ENTRA})).get()
    assert not identity.asked


def test_a_token_is_renewed_in_a_long_session_and_used_at_the_next_connection(
    service: Running, identity: Identity
) -> None:
    identity.life_s = 4.0  # renewed half-way through a life so short
    service.service.plan = [Behaviour(drop_at_s=27.0), Behaviour()]
    engine = engine_for(service.host, hurry=False, **ENTRA)

    segments = transcribe(engine, Recording(28.0))

    assert whole(segments, 28.0)
    first, second = tokens_seen(service)
    assert first == identity.tokens[0]
    assert second in identity.tokens[1:]


def test_a_refused_token_is_replaced_once_and_the_recording_goes_on(
    service: Running, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sttd.engines.azure.sources.REPEAT_REFUSED_S", 0.0)
    engine = engine_for(service.host, **ENTRA)
    transcribe(engine, Recording(1.0))
    service.service.access = Access(revoked=tuple(identity.tokens))

    segments = transcribe(engine, Recording(3.0))

    assert whole(segments, 3.0)
    assert len(identity.tokens) == 2
    assert tokens_seen(service) == identity.tokens


def test_an_identity_that_gives_the_refused_token_again_is_asked_once(
    service: Running, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sttd.engines.azure.sources.REPEAT_REFUSED_S", 0.0)
    identity.same = True
    engine = engine_for(service.host, **ENTRA)
    transcribe(engine, Recording(1.0))
    service.service.access = Access(revoked=tuple(identity.tokens))
    before = service.counters.upgrades

    with pytest.raises(AuthenticationError):
        transcribe(engine, Recording(3.0))

    assert len(identity.asked) == 2
    assert service.counters.upgrades == before + 1


def test_a_token_refused_when_it_was_issued_a_moment_ago_is_not_fetched_again(
    service: Running, identity: Identity
) -> None:
    service.service.access = Access(tokens=("another",))
    engine = engine_for(service.host, **ENTRA)

    for _ in range(3):
        with pytest.raises(AuthenticationError):
            transcribe(engine, Recording(1.0))

    assert len(identity.asked) == 1


def test_a_token_revoked_in_mid_session_is_no_end_of_the_job(
    service: Running, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sttd.engines.azure.sources.REPEAT_REFUSED_S", 0.0)
    service.service.plan = [Behaviour(drop_at_s=11.0), Behaviour(status=401), Behaviour()]

    recording = Recording(12.0)

    with pytest.raises(TransientEngineError, match="renewed"):
        transcribe(engine_for(service.host, hurry=False, **ENTRA), recording)

    assert len(identity.tokens) == 2
    assert not recording.reports, "other jobs are not held for a token that was replaced"


def test_a_hanging_identity_costs_nobody_much_while_the_token_is_good(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sttd.engines.azure.sources.EARLY_LIMIT_S", 0.3)
    monkeypatch.setattr("sttd.engines.azure.sources.REPEAT_FAILED_S", 0.0)
    identity.life_s = 8.0
    source = OwnSource(read_settings({"host": "ws://h", **ENTRA}))
    first = source.get()
    identity.answers.clear()
    eventually(lambda: time.time() >= first.renew_at)

    assert [source.get() for _ in range(5)] == [first] * 5

    assert len(identity.asked) <= 2, "and one of those was the first"


# -- the broker --------------------------------------------------------------------------------
def test_forty_workers_and_two_hundred_jobs_cost_one_request(
    tmp_path: Path, identity: Identity
) -> None:
    values: list[str] = []
    with running_broker(tmp_path / "helper", **ENTRA) as broker:

        def worker() -> None:
            values.extend(broker.get().value for _ in range(5))

        workers = [threading.Thread(target=worker) for _ in range(40)]
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()

    assert len(values) == 200
    assert set(values) == set(identity.tokens)
    assert len(identity.asked) == 1


def test_a_recording_is_transcribed_with_what_the_broker_holds_alone(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STTD_CREDENTIAL_SPEECH_KEY", "k1")
    service.service.access = Access(keys=("k1",))
    with running_broker(tmp_path / "helper", auth="key", key="speech-key"):
        monkeypatch.delenv("STTD_CREDENTIAL_SPEECH_KEY")
        monkeypatch.setenv("STTD_HELPER_SOCKET", str(tmp_path / "helper"))

        engine = engine_for(service.host, auth="key", key="speech-key")

        assert whole(transcribe(engine, Recording(3.0)), 3.0)


def test_the_brokers_socket_is_its_users_alone(tmp_path: Path, identity: Identity) -> None:
    assert identity.url
    with running_broker(tmp_path / "helper", **ENTRA):
        assert stat.S_IMODE(os.stat(tmp_path / "helper").st_mode) == 0o600


def test_the_broker_passes_on_why_there_is_no_token(tmp_path: Path, identity: Identity) -> None:
    identity.status = 400
    with (
        running_broker(tmp_path / "helper", **ENTRA) as broker,
        pytest.raises(AuthenticationError, match="no token"),
    ):
        broker.get()


def test_a_worker_waits_for_a_token_no_longer_than_for_the_service(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the daemon would take it for stalled, and count that against the recording."""
    assert identity.url
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(tmp_path / "helper"))
        deaf.listen()
        monkeypatch.setenv("STTD_HELPER_SOCKET", str(tmp_path / "helper"))

        with pytest.raises(EngineUnavailableError, match="does not answer"):
            transcribe(engine_for("ws://127.0.0.1:1", stall_timeout=0.3, **ENTRA), Recording(1.0))


def test_a_refusing_identity_is_not_asked_again_at_once(tmp_path: Path, identity: Identity) -> None:
    identity.status = 400
    with running_broker(tmp_path / "helper", **ENTRA) as broker:
        for _ in range(5):
            with pytest.raises(AuthenticationError):
                broker.get()

    assert len(identity.asked) == 1


def test_nonsense_on_the_brokers_socket_does_not_disturb_it(
    tmp_path: Path, identity: Identity
) -> None:
    with running_broker(tmp_path / "helper", **ENTRA) as broker:
        for nonsense in (
            b"",
            b"\xff\x00\n",
            b'{"ask":"everything"}\n',
            b'{"ask":"\xff"}\n',
            b"x" * 100_000 + b"\n",
        ):
            with (
                contextlib.suppress(ConnectionError),
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line,
            ):
                line.connect(str(tmp_path / "helper"))
                line.sendall(nonsense)
        assert broker.get().value in identity.tokens


def test_without_its_broker_a_worker_says_that_it_is_away(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="credential helper"):
        BrokerSource(str(tmp_path / "nobody")).get()


def test_a_broker_with_a_bad_section_says_so_and_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sttd.engines.azure.broker", str(tmp_path / "helper")],
        input=b'{"regoin":"westeurope"}\n',
        capture_output=True,
        cwd=ROOT,
        check=False,
    )

    assert done.returncode == 1
    assert b"did you mean 'region'" in done.stderr
    assert b"Traceback" not in done.stderr


def test_neither_broker_nor_worker_imports_what_fetches_tokens() -> None:
    code = (
        "import sys, sttd.engines.azure.broker as b; from sttd.engines.azure import AzureEngine;"
        "assert 'azure.cognitiveservices.speech' not in sys.modules;"
        "AzureEngine({'host': 'ws://h', 'auth': 'none'});"
        "assert 'azure.cognitiveservices.speech' in sys.modules;"
        "bad = {'azure.identity', 'msal', 'requests'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_supervisors_table_knows_the_broker() -> None:
    helper = HELPERS["azure"]

    assert helper.module == broker.__name__
    assert helper.variable == BROKER_VARIABLE
    assert fnmatch.filter(["STTD_CREDENTIAL_SPEECH_KEY"], helper.secrets[-1])
    assert TOKEN_VARIABLE in helper.secrets
    # what azure-identity reads secrets from
    names = vars(importlib.import_module("azure.identity._constants").EnvironmentVariables)
    secretive = {"SECRET", "HEADER", "PASSWORD"}
    wanted = {n for n in names.values() if isinstance(n, str) and n.split("_")[-1] in secretive}
    assert len(wanted) >= 4
    assert wanted <= set(helper.secrets)


# -- grants ------------------------------------------------------------------------------------
def test_a_grant_never_shows_its_secret() -> None:
    grant = Grant(kind="token", value="s3cret", expires_at=5.0)

    assert "s3cret" not in repr(grant)
    assert "s3cret" not in str([grant])


def test_tokens_are_renewed_five_minutes_before_their_end_or_half_way() -> None:
    assert Grant(kind="token", issued_at=0, expires_at=3600).renew_at == 3300
    assert Grant(kind="token", issued_at=0, expires_at=60).renew_at == 30
    assert Grant(kind="key").renew_at == float("inf")


@pytest.mark.parametrize("token", ["", "opaque", "a.b.c", "aad#x#a.b.c", "a.e30.c"])
def test_a_token_that_does_not_say_when_it_ends_is_left_alone(token: str) -> None:
    assert expiry_of(token) is None


def test_a_composed_tokens_expiry_is_read() -> None:
    assert expiry_of(f"aad#{RESOURCE}#{fake_jwt(1, 1234)}") == 1234
