"""The same contract against the real service: `pytest -m live`, where a resource is named.

    AZURE_SPEECH_REGION=westeurope AZURE_SPEECH_KEY=... pytest -m live
    AZURE_SPEECH_ENDPOINT=https://NAME.cognitiveservices.azure.com/ pytest -m live    (Entra)

The recording is the project's own or lies beside it; it costs about a minute of audio.
"""

from __future__ import annotations

import os

import pytest

from sttd.engines import Engine
from sttd.engines.azure import AzureEngine
from sttd.engines.azure.check import check
from sttd.engines.testing import EngineContract
from tests.engines.test_azure_speech import RECORDING
from tests.support.audio import read_wav

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

REGION = os.environ.get("AZURE_SPEECH_REGION", "")
ENDPOINT = os.environ.get("AZURE_SPEECH_ENDPOINT", "")
KEY = os.environ.get("AZURE_SPEECH_KEY", "")


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    if not (REGION or ENDPOINT):
        pytest.skip("no Azure resource: set AZURE_SPEECH_REGION or AZURE_SPEECH_ENDPOINT")
    chosen: dict[str, object] = {"region": REGION} if REGION else {"endpoint": ENDPOINT}
    if KEY:
        monkeypatch.setenv("STTD_CREDENTIAL_LIVE_KEY", KEY)
        return chosen | {"auth": "key", "key": "live-key"}
    return chosen | {"resource_id": os.environ.get("AZURE_SPEECH_RESOURCE_ID", "")}


@pytest.fixture
def engine(options: dict[str, object]) -> Engine:
    return AzureEngine(options)


@pytest.fixture
def speech() -> bytes:
    if not RECORDING.exists():
        pytest.skip(f"{RECORDING} is not here: real recordings lie beside the project")
    return read_wav(RECORDING)


def test_the_check_finds_nothing_wrong(options: dict[str, object]) -> None:
    findings = check(options)

    assert findings[-1].ok, findings


class TestAzureLive(EngineContract):
    """The contract of engines, on the real service."""
