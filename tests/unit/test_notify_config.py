"""What `[notify]` takes, and what it does not show."""

from __future__ import annotations

from pathlib import Path

import pytest

from sttd.config import ConfigError, load
from sttd.notifier import variables

NOWHERE = Path("/nonexistent/etc/sttd")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('exec = ["told"]', "absolute path of a program"),
        ('url = "ftp://example.com/"', "must be an address of http or https"),
        ('events = ["job.suceeded"]', 'did you mean "job.succeeded"'),
        ('events = ["notify.failed"]', "is about notifications themselves"),
        ("timeout = 0", "must be more than 0"),
        ("concurrency = 0", "at least 1"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(
    line: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "sttd.toml"
    path.write_text(f"[notify]\n{line}\n")
    with pytest.raises(ConfigError) as error:
        load(path, {}, NOWHERE)
    assert message.replace('"', "") in str(error.value).replace('"', "")
    assert "example.com/\n" not in str(error.value)


def test_the_environment_of_a_command_has_plain_fields_only() -> None:
    event = {"event": "job.failed", "attempt": 2, "outputs": ["a"], "worker": None, "code": "x\0y"}
    assert variables(event) == {
        "STTD_EVENT": "job.failed",
        "STTD_ATTEMPT": "2",
        "STTD_CODE": "xy",
    }
