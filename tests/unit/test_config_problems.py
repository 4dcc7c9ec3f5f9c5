"""What is refused, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sttd.config import ConfigError, load

NOWHERE = Path("/nonexistent/etc/sttd")
LONG = "/run/" + "x" * 98 + ".sock"  # 108 bytes


def problems(folder: Path, text: str) -> list[str]:
    """What is said, without the file's name in front; [] when the file is fine."""
    path = folder / "sttd.toml"
    path.write_text(text)
    try:
        load(path, {}, NOWHERE)
    except ConfigError as error:
        return [str(each).removeprefix(f"{path}:") for each in error.problems]
    return []


# One line each: the file, and what its one problem must say.
WRONG = [
    # keys that are not known
    ("[pool]\nworkres = 2", '2: pool.workres: unknown key; did you mean "pool.workers"?'),
    ("state_dri = '/x'", '1: state_dri: unknown key; did you mean "state_dir"?'),
    ("[logs]\nx = 1", '1: logs: unknown key; did you mean "log"?'),
    ("workers = 2", '1: workers: unknown key; did you mean "pool.workers"?'),
    ("[pool]\ngrace = 2", '2: pool.grace: unknown key; did you mean "recycle.grace"?'),
    ("[url]\nzzzz = 2", "2: url.zzzz: unknown key; known here are allow_hosts, enabled"),
    ("[engine.azure]\nregoin = 'x'", 'did you mean "engine.azure.region"?'),
    ("[engine.azure]\nsegmentation_silence = 1", '"engine.azure.segmentation_silence_ms"?'),
    ("[engine.pocketsphinx]\nmodle = 'x'", 'did you mean "engine.pocketsphinx.model"?'),
    ("[engine]\nazrue = 1", 'did you mean "engine.azure"?'),
    ("origins = 1", "1: origins: unknown key"),
    # tables and values
    ("pool = 3", "1: pool: must be a table; write [pool]"),
    ("[[pool]]\nworkers = 3", "pool: must be a table"),
    ("[pool.workers]\na = 1", "pool.workers"),
    ("[pool]\nworkers = 0", "pool.workers = 0: must be a whole number of at least 1"),
    ("[pool]\nworkers = true", "pool.workers = true: must be"),
    ("[pool]\nstandby = -1", "pool.standby = -1: must be a whole number of at least 0"),
    ("[pool]\nmax_per_memory = 1", "must be true or false"),
    ("[pool]\nmemory_budget = '600%'", "at most 100%"),
    ("[recycle]\nrss_soft = '400M'", '"M" is no unit, did you mean "MiB"?'),
    ("[recycle]\nmax_age = 12:00:00", "recycle.max_age = 12:00:00: must be a time"),
    ("[recycle]\nsample_every = 0", 'must be at least "1ms"'),
    ("[inbox]\nextensions = 'wav'", 'inbox.extensions = "wav": must be a list of texts'),
    ("[inbox]\nextensions = ['wav', 3]", 'inbox.extensions = ["wav", 3]: must be a list of'),
    ("[inbox]\nextensions = []", "must name at least one"),
    ("[inbox]\nextensions = ['tar.gz']", '"tar.gz" is no extension'),
    ("[inbox]\nextensions = ['json']", '"json" marks sidecars'),
    ("[inbox]\nrescan = 0", "inbox.rescan = 0: must be more than 0"),
    ("[outbox]\nformats = ['strt']", 'did you mean "srt"?'),
    ("[outbox]\noriginals = 'keeep'", 'must be "keep" or "delete"; did you mean "keep"?'),
    ("[log]\nlevel = 'warn'", 'did you mean "warning"?'),
    ("[retry]\nmax_attempts = 0", "at least 1"),
    ("[limits]\nmax_duration = 0", "must be more than 0"),
    ("[engine]\nname = 'a b'", 'engine.name = "a b": is no engine'),
    ("[engine.azure]\nmax_sessions = 'x'", "must be a whole number"),
    ("[engine.azure]\nlanguages = 'en-US'", "must be a list of texts"),
    ("[url]\nallow_hosts = ['https://x.org/']", "is no host name"),
    ("[metrics]\nlisten = '9465'", "must be a host and a port"),
    ("[metrics]\nlisten = '127.0.0.1:99999'", "from 1 to 65535"),
    ("[metrics]\nlisten = '::1:9465'", "needs brackets"),
    ("[metrics]\nlisten = '0.0.0.0:9465'", "must be an address of the loopback"),
    ("[metrics]\nlisten = 'example.com:9465'", "must be an address of the loopback"),
    # folders
    ("state_dir = '/'", "must be a folder of its own"),
    ("state_dir = ''", "must be a folder of its own"),
    ("[inbox]\npath = ''", "beneath state_dir"),
    ("[inbox]\npath = '../x'", "beneath state_dir"),
    ("[inbox]\npath = 'spool/in'", "must not be in spool/"),
    ("[inbox]\npath = 'x'\n[outbox]\npath = 'x/y'", "one inside the other"),
    ("[inbox]\npath = '/var/lib'\n", "must not hold state_dir"),
    # sockets
    ("[control]\nendpoint = '/run/x.sock'", "is no endpoint; write ipc:///"),
    ("[control]\nendpoint = 'ipc://x.sock'", "is no endpoint"),
    ("[control]\nendpoint = 'ipc:///run/sttd/'", "not a folder"),
    ("[control]\nevents = 'tcp://127.0.0.1'", "must be a host and a port"),
    (f"[control]\nendpoint = 'ipc://{LONG}'", f"{LONG} has 108 bytes, the kernel's limit is 107"),
    ("[control]\nevents = 'ipc:///run/sttd/control.sock'", "is the same as control.endpoint"),
    ("[control]\nmax_message = '1KiB'", 'must be at least "64KiB"'),
    ("[control]\nallow_paths = ['srv']", "must be absolute paths"),
    ("[control]\ncurve_clients = 'keys'", "must be an absolute path"),
    # values that do not fit together
    ("[recycle]\nrss_soft = '600MiB'", '= "600MiB": is above recycle.rss_ceiling'),
    (
        "[recycle]\nrss_ceiling = '100MiB'\nrss_soft = '101MiB'",
        '3: recycle.rss_soft = "101MiB": is above recycle.rss_ceiling',
    ),
    ("[retry]\nbackoff = '2h'", "is longer than retry.backoff_max"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (line,) = problems(tmp_path, text)
    assert said in line
    assert "\n" not in line


FINE = [
    "[inbox]\nextensions = ['.WAV', 'wav', 'Mp3']",
    "[recycle]\nrss_ceiling = 0\nrss_soft = '2GiB'",
    "[recycle]\nrss_soft = 0",
    "[retry]\nbackoff = 0\nbackoff_max = 0",
    "[limits]\nmin_free_disk = '0'",
    "[control]\ngroup = ''",
    f"[control]\nendpoint = 'ipc://{LONG[:-1]}'",
    "[control]\nendpoint = 'tcp://127.0.0.1:5555'\ncurve_server_key = 'a'\ncurve_clients = '/k'",
    "[metrics]\nlisten = '[::1]:9465'",
    "[metrics]\nlisten = 'localhost:9465'",
    "[engine]\nname = 'my-engine'",
    "[inbox]\npath = '/mnt/in'",
    "[url]\nallow_hosts = ['*.Example.com']",
]


@pytest.mark.parametrize("text", FINE)
def test_what_is_right_is_taken(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = "[pool]\nworkres = 1\nstandby = -1\n[recycle]\nrss_soft = '1GiB'\n[log]\nlevel = 'no'"
    lines = problems(tmp_path, text)
    assert [line.split(":")[0] for line in lines] == ["2", "3", "7", "5"]


def test_a_value_that_is_wrong_by_itself_is_not_blamed_twice(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, "[recycle]\nrss_soft = '1GiB'\nrss_ceiling = 'big'")
    assert "rss_ceiling" in line


def test_tcp_needs_both_curve_keys(tmp_path: Path) -> None:
    text = "[control]\nendpoint = 'tcp://127.0.0.1:5555'"
    first, second = problems(tmp_path, text)
    assert "needs control.curve_server_key" in first
    assert "needs control.curve_clients" in second


@pytest.mark.parametrize(
    "secret", ["0123456789abcdef" * 2, "Ab1" * 28, "two words", "k3y+with/slashes=="]
)
@pytest.mark.parametrize("key", ["engine.azure.key", "control.curve_server_key"])
def test_a_secret_given_instead_of_a_name_is_refused_and_never_repeated(
    tmp_path: Path, key: str, secret: str
) -> None:
    table, _, name = key.rpartition(".")
    (line,) = problems(tmp_path, f"[{table}]\n{name} = '{secret}'")
    assert "never the secret itself" in line
    assert secret not in line


def test_the_value_of_a_misspelt_key_is_never_repeated(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, "[engine.azure]\nkee = 'hush-hush'")
    assert "hush" not in line


def test_extensions_are_tidied_and_the_manifest_is_always_written(tmp_path: Path) -> None:
    path = tmp_path / "sttd.toml"
    path.write_text("[inbox]\nextensions = ['.WAV', 'wav', 'Mp3']\n[outbox]\nformats = ['txt']")
    loaded = load(path, {}, NOWHERE)
    assert loaded.inbox.extensions == ("wav", "mp3")
    assert loaded.outbox.formats == ("txt", "json")


@given(
    st.dictionaries(
        st.sampled_from(["pool", "workers", "engine", "azure", "options", "recycle", "x", "é.\n"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["workers", "azure", "grace", "\x1b"]), inner)
            ),
            max_leaves=4,
        ),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_is_loaded_or_refused_in_lines_that_are_safe_to_print(
    tmp_path: Path, tree: dict[str, object]
) -> None:
    for line in problems(tmp_path, _toml(tree)):
        assert line.isprintable()


def _toml(value: object) -> str:
    """The tree as one TOML text; None is left out."""
    if isinstance(value, dict):
        return "".join(
            f"{_text(key)} = {_inline(each)}\n" for key, each in value.items() if each is not None
        )
    raise AssertionError(value)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        inner = [f"{_text(k)} = {_inline(v)}" for k, v in value.items() if v is not None]
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(each) for each in value if each is not None) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else _text(str(value))


def _text(text: str) -> str:
    plain = text.encode("utf-8", "ignore").decode()
    return '"' + "".join(f"\\U{ord(c):08x}" for c in plain) + '"'
