"""Where the configuration comes from, and what goes over what."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sttd.config import ConfigError, Settings, load
from sttd.config.schema import KEYS

NOWHERE = Path("/nonexistent/etc/sttd")


def values(settings: Settings) -> Settings:
    """The settings without where they came from."""
    return msgspec.structs.replace(settings, origins={}, warnings=())


def written(folder: Path, text: str, name: str = "sttd.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems(path: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, NOWHERE)
    assert str(caught.value).splitlines() == [str(each) for each in caught.value.problems]
    return [str(each) for each in caught.value.problems]


# -- where it is found --------------------------------------------------------------------------
def test_without_any_file_the_defaults_hold() -> None:
    settings = load(environ={}, etc=NOWHERE)
    assert values(settings) == Settings()
    assert set(settings.origins.values()) == {"default"}
    assert settings.origins.keys() == KEYS.keys()


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert values(load(written(tmp_path, ""), {}, NOWHERE)) == Settings()


def test_the_named_file_goes_before_the_variable_and_that_before_the_default_file(
    tmp_path: Path,
) -> None:
    named = written(tmp_path, "[pool]\nworkers = 3", "named.toml")
    variable = written(tmp_path, "[pool]\nworkers = 4", "variable.toml")
    etc = written(tmp_path / "etc", "[pool]\nworkers = 5").parent
    environ = {"STTD_CONFIG": str(variable)}
    assert load(named, environ, etc).pool.workers == 3
    assert load(None, environ, etc).pool.workers == 4
    assert load(None, {}, etc).pool.workers == 5
    assert load(None, {"STTD_CONFIG": ""}, etc).pool.workers == 5


def test_drop_ins_go_over_the_default_file_in_the_order_of_their_names(tmp_path: Path) -> None:
    written(tmp_path, "[pool]\nworkers = 3\nstandby = 2\n[outbox]\nformats = ['vtt']")
    written(tmp_path, "[pool]\nworkers = 5\n[outbox]\nformats = ['srt']", "conf.d/20-b.toml")
    written(tmp_path, "[pool]\nworkers = 4", "conf.d/10-a.toml")
    written(tmp_path, "[pool]\nstandby = 9", "conf.d/.99-hidden.toml")
    written(tmp_path, "[pool]\nworkers = 9", "conf.d/99-backup.toml~")
    settings = load(None, {}, tmp_path)
    assert (settings.pool.workers, settings.pool.standby) == (5, 2)
    assert settings.outbox.formats == ("srt", "json")  # lists are replaced; the manifest stays
    assert settings.origins["pool.workers"] == f"{tmp_path}/conf.d/20-b.toml:2"
    assert settings.origins["pool.standby"] == f"{tmp_path}/sttd.toml:3"


def test_drop_ins_never_touch_a_file_that_was_named(tmp_path: Path) -> None:
    named = written(tmp_path, "[pool]\nworkers = 3")
    written(tmp_path, "[pool]\nworkers = 4", "conf.d/10-a.toml")
    assert load(named, {}, tmp_path).pool.workers == 3


def test_a_named_file_that_is_missing_is_an_error_with_its_name(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    expected = f"{missing}: cannot be read: No such file or directory; name an existing file"
    assert problems(missing) == [expected]
    assert problems(None, {"STTD_CONFIG": str(missing)}) == [expected]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[pool]\nworkers = = ", ":2: is not TOML: Invalid value"),
        (b"a = 1\na = 2\n", ": is not TOML: Cannot overwrite a value"),
        (b"# caf\xe9\n", ":1: is not UTF-8"),
        (b"#" * (2 << 20), ": is too large for a configuration file"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_one_line_with_its_place(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "sttd.toml"
    path.write_bytes(content)
    (line,) = problems(path)
    assert said in line
    assert line.startswith(str(path))


def test_a_byte_order_mark_is_forgiven(tmp_path: Path) -> None:
    path = tmp_path / "sttd.toml"
    path.write_bytes(b"\xef\xbb\xbf[pool]\nworkers = 3\n")
    assert load(path, {}, NOWHERE).pool.workers == 3


# -- the environment ----------------------------------------------------------------------------
def test_every_key_can_be_set_from_the_environment() -> None:
    environ = {
        "STTD_STATE_DIR": "/srv/sttd",
        "STTD_POOL__WORKERS": "auto",
        "STTD_POOL__STANDBY": "0",
        "STTD_INBOX__RECURSIVE": "no",
        "STTD_INBOX__SETTLE": "0",
        "STTD_RECYCLE__RSS_SOFT": "100MiB",
        "STTD_RETRY__BACKOFF": "250ms",
        "STTD_OUTBOX__FORMATS": '["json", "srt"]',
        "STTD_ENGINE__NAME": "pack.mod:Class",
        "STTD_ENGINE__AZURE__REGION": "westeurope",
        "STTD_ENGINE__AZURE__LANGUAGES": '["en-US","de-DE"]',
        "STTD_ENGINE__AZURE__PACE": "4",
        "STTD_ENGINE__OPTIONS__SPEED": "2.5",
        "STTD_ENGINE__OPTIONS__VOICE": "a plain text",
    }
    settings = load(environ=environ, etc=NOWHERE)
    assert settings.state_dir == Path("/srv/sttd")
    assert (settings.pool.workers, settings.pool.standby) == ("auto", 0)
    assert (settings.inbox.recursive, settings.inbox.settle) == (False, 0.0)
    assert (settings.recycle.rss_soft, settings.retry.backoff) == (100 << 20, 0.25)
    assert settings.outbox.formats == ("json", "srt")
    assert settings.engine.options_for("azure") == settings.engine.azure
    assert settings.engine.azure["pace"] == 4
    assert settings.engine.azure["languages"] == ("en-US", "de-DE")
    assert settings.engine.azure["auth"] == "entra"
    assert settings.engine.options_for("pack.mod:Class") == {"speed": 2.5, "voice": "a plain text"}
    assert settings.engine.options_for("pocketsphinx") == {"model": "en-us"}
    assert settings.origins["pool.workers"] == "environment STTD_POOL__WORKERS"
    assert settings.origins["pool.memory_budget"] == "default"


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[pool]\nworkers = 3\nstandby = 3")
    settings = load(path, {"STTD_POOL__WORKERS": "7"}, NOWHERE)
    assert (settings.pool.workers, settings.pool.standby) == (7, 3)


def test_a_variable_that_sets_nothing_is_a_warning_with_the_nearest_one() -> None:
    environ = {
        "STTD_POOL__WORKRES": "4",
        "STTD_ENGINE__OPTIONS__A__B": "too deep",
        "STTD_": "",
        "STTD_WHATEVER": "",
        "STTD_CONFIG": "",
        "STTD_SOCKET": "ipc:///x",
        "STTD_KEYS": "/x",
        "STTD_HELPER_SOCKET": "/x",
        "STTD_CREDENTIAL_SPEECH_KEY": "hush",
        "HOME": "/root",
    }
    warnings = load(environ=environ, etc=NOWHERE).warnings
    assert [w.where.split()[1] for w in warnings] == [
        "STTD_",
        "STTD_ENGINE__OPTIONS__A__B",
        "STTD_POOL__WORKRES",
        "STTD_WHATEVER",
    ]
    assert 'did you mean "STTD_POOL__WORKERS"?' in str(warnings[2])
    assert {w.level for w in warnings} == {"warning"}


def test_a_bad_value_from_the_environment_names_the_variable() -> None:
    assert problems(None, {"STTD_POOL__WORKERS": "four"}) == [
        (
            'environment STTD_POOL__WORKERS: pool.workers = "four": '
            'must be a whole number of at least 1 or "auto"'
        )
    ]


# -- what came of it ----------------------------------------------------------------------------
def test_folders_lie_in_the_state_directory_unless_they_are_absolute() -> None:
    environ = {"STTD_STATE_DIR": "/srv/x/../sttd", "STTD_OUTBOX__PATH": "/mnt/out"}
    settings = load(environ=environ, etc=NOWHERE)
    assert settings.inbox_dir == Path("/srv/sttd/inbox")
    assert settings.outbox_dir == Path("/mnt/out")
    assert settings.done_dir == Path("/srv/sttd/done")
    assert settings.failed_dir == Path("/srv/sttd/failed")
    assert settings.spool_dir == Path("/srv/sttd/spool")
    assert settings.ledger_path == Path("/srv/sttd/ledger/sttd.db")


def test_a_relative_state_directory_counts_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environ={"STTD_STATE_DIR": "./var"}, etc=NOWHERE).state_dir == tmp_path / "var"


def test_options_of_a_plug_in_are_handed_on_as_they_are(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[engine]\nname = "mine"\n'
        '[engine.options]\nMixed = 1\n"dotted.name" = 2\ndeep = {a = [1]}\n',
    )
    engine = load(path, {}, NOWHERE).engine
    assert engine.options_for("mine") == {"Mixed": 1, "dotted.name": 2, "deep": {"a": [1]}}


def test_jobs_resume_unless_the_engine_is_told_to_restart(tmp_path: Path) -> None:
    path = written(tmp_path, '[engine.azure]\nresume = "restart"')
    assert load(environ={}, etc=NOWHERE).resumes
    assert not load(path, {}, NOWHERE).resumes
    assert load(path, {"STTD_ENGINE__NAME": "pocketsphinx"}, NOWHERE).resumes


def test_places_are_right_with_inline_tables_quoted_keys_and_long_texts(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'engine.options = {note = """\n[pool]\nworkers = 9\n"""}\n'
        'pool . "workers" = 3\n[ "recycle" ]\n  grace = "1s"\n',
    )
    origins = load(path, {}, NOWHERE).origins
    assert origins["pool.workers"] == f"{path}:5"
    assert origins["recycle.grace"] == f"{path}:7"
    assert origins["engine.options.note"] == str(path)


def test_a_ceiling_below_the_default_soft_line_takes_that_with_it(tmp_path: Path) -> None:
    low = load(written(tmp_path, "recycle.rss_ceiling = '100MiB'"), {}, NOWHERE)
    assert low.recycle.rss_soft == 75 << 20
    assert low.origins["recycle.rss_soft"] == "default"
    for text in ("recycle.rss_ceiling = '400MiB'", "recycle.rss_ceiling = 0"):
        assert load(written(tmp_path, text), {}, NOWHERE).recycle.rss_soft == 384 << 20
    both = "recycle.rss_ceiling = '100MiB'\nrecycle.rss_soft = 0"
    assert load(written(tmp_path, both), {}, NOWHERE).recycle.rss_soft == 0


def test_a_state_directory_that_is_no_text_is_refused() -> None:
    [problem] = problems(None, {"STTD_STATE_DIR": "/srv/caf\udce9"})
    assert "must be a path in UTF-8" in problem
    problem.encode()
