"""What a reload changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sttd.config import Settings, changes, load
from sttd.config.schema import KEYS, flatten

NOWHERE = Path("/nonexistent/etc/sttd")


def loaded(**environ: str) -> Settings:
    return load(environ=environ, etc=NOWHERE)


def test_the_same_configuration_changes_nothing() -> None:
    assert changes(loaded(), loaded(STTD_POOL__WORKERS="2")) == []


def test_every_changed_key_is_named_with_both_values() -> None:
    new = loaded(STTD_POOL__WORKERS="auto", STTD_RECYCLE__GRACE="1s")
    assert [(c.key, c.old, c.new, c.needs_restart) for c in changes(loaded(), new)] == [
        ("pool.workers", 2, "auto", False),
        ("recycle.grace", 10.0, 1.0, False),
    ]


@pytest.mark.parametrize(
    ("variable", "value", "restart"),
    [
        ("STTD_STATE_DIR", "/srv/x", True),
        ("STTD_INBOX__PATH", "in", True),
        ("STTD_OUTBOX__PATH", "out", True),
        ("STTD_CONTROL__GROUP", "users", True),
        ("STTD_METRICS__LISTEN", "127.0.0.1:9465", True),
        ("STTD_INBOX__SETTLE", "9s", False),
        ("STTD_LOG__LEVEL", "debug", False),
        ("STTD_ENGINE__NAME", "pocketsphinx", False),
        ("STTD_ENGINE__AZURE__REGION", "westeurope", False),
    ],
)
def test_what_is_opened_at_the_start_waits_for_a_restart(
    variable: str, value: str, restart: bool
) -> None:
    (change,) = changes(loaded(), loaded(**{variable: value}))
    assert change.needs_restart is restart


def test_options_that_come_and_go_are_changes() -> None:
    old, new = loaded(STTD_ENGINE__OPTIONS__A="1"), loaded(STTD_ENGINE__AZURE__PACE="4")
    assert [(c.key, c.old, c.new) for c in changes(old, new)] == [
        ("engine.options.a", 1, None),
        ("engine.azure.pace", None, 4),
    ]


def test_what_may_be_secret_is_marked() -> None:
    new = loaded(STTD_ENGINE__OPTIONS__API_TOKEN="x", STTD_POOL__WORKERS="3")
    assert {c.key: c.is_secretive for c in changes(loaded(), new)} == {
        "pool.workers": False,
        "engine.options.api_token": True,
    }


def test_every_effective_value_has_its_key() -> None:
    values = flatten(loaded())
    assert values.keys() <= KEYS.keys()
    assert values["recycle.rss_soft"] == 384 << 20
