"""`sttd init`: a first configuration, from flags and from answers; checked before it is there.

Where a package has put the commented /etc/sttd/sttd.toml, the answers are laid over it in conf.d/:
the package's file stays as it came, and an upgrade has nothing to ask about.

Writes one new file and replaces none; makes no folder, asks for no secret (credentials have names).
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec

from sttd.config.checking import BUILT_IN, EngineCheck, check
from sttd.config.loading import ETC
from sttd.config.problems import Problem
from sttd.config.sections import Settings
from sttd.credentials import variable_of
from sttd.engines.trial import refusal

STATE_DIR = str(Settings().state_dir)
PLACES = ("region", "endpoint", "host")  # of Azure's service: exactly one
# What says where the service is, by how one signs in.
PLACE_OF = {"entra": "endpoint", "key": "region", "none": "host"}


class Wishes(msgspec.Struct, kw_only=True):
    """What the configuration is to say; None: not said yet."""

    engine: str | None = None
    region: str | None = None
    resource_id: str | None = None
    endpoint: str | None = None
    host: str | None = None
    auth: str | None = None
    key: str | None = None
    state_dir: str | None = None


def complete(wishes: Wishes) -> None:
    """Ask for what is missing; a wrong answer is asked for again. Raises click.Abort."""
    if wishes.engine is None:
        wishes.engine = click.prompt(
            "Engine: azure (a cloud service, or its container) or pocketsphinx (here, English)",
            default="azure",
            type=click.Choice(sorted(set(BUILT_IN) - {"drill"})),
            show_choices=False,
        )
    if wishes.engine == "azure":
        _complete_azure(wishes)
    if wishes.state_dir is None:
        asked = "Folder for the inbox, the outbox and everything else"
        wishes.state_dir = click.prompt(asked, default=STATE_DIR, value_proc=_absolute)


def _complete_azure(wishes: Wishes) -> None:
    if wishes.auth is None:
        guess = "none" if wishes.host else "key" if wishes.key else "entra"
        asked = "Sign in by entra (a managed identity), by key, or none (a container)"
        wishes.auth = click.prompt(
            asked, default=guess, type=click.Choice(list(PLACE_OF)), show_choices=False
        )
    if not any(getattr(wishes, place) for place in PLACES):
        place = PLACE_OF.get(wishes.auth, "endpoint")
        asked, fits = {
            "endpoint": ("The resource's address, https://NAME.cognitiveservices.azure.com/", _url),
            "region": ("The resource's region, such as westeurope", _region),
            "host": ("The container's address, such as ws://127.0.0.1:5000", _url),
        }[place]
        setattr(wishes, place, click.prompt(asked, value_proc=fits))
    if wishes.auth == "entra" and wishes.region and not wishes.resource_id:
        asked = "The resource's id, /subscriptions/.../accounts/NAME"
        wishes.resource_id = click.prompt(asked, value_proc=_resource)
    if wishes.auth == "key" and not wishes.key:
        asked = "NAME of the credential that holds the key (never the key itself)"
        wishes.key = click.prompt(asked, default="speech-key", value_proc=_name)


def _fits(pattern: str, remedy: str) -> Callable[[str], str]:
    """An answer that fits; anything else is asked for again, and never shown: it may be secret."""

    def judge(answer: str) -> str:
        if not re.fullmatch(pattern, answer.strip()):
            raise click.BadParameter(remedy)
        return answer.strip()

    return judge


_region = _fits(r"[a-z][a-z0-9]{2,40}", "letters and digits only, such as westeurope")
_resource = _fits(
    r"/subscriptions/[!-~]+", "as az cognitiveservices account show says it: /subscriptions/..."
)
_absolute = _fits(r"/[^/\x00-\x1f].*", "an absolute path, such as /var/lib/sttd")
_name = _fits(
    r"(?![0-9A-Fa-f]{32}$)[A-Za-z0-9][A-Za-z0-9._-]{0,38}", "a name, such as speech-key, not a key"
)


def _url(answer: str) -> str:
    parts = urlsplit(answer.strip())
    if parts.scheme not in ("https", "http", "wss", "ws") or not parts.hostname:
        raise click.BadParameter("an address with its scheme, such as https://NAME...")
    return answer.strip()


def text_of(wishes: Wishes, target: Path) -> str:
    """The configuration as TOML. What is not in it keeps its default."""
    state_dir = wishes.state_dir or STATE_DIR
    lines = [
        "# Made by sttd init. All other keys have their defaults: docs/configuration.md.",
        f"state_dir = {_quoted(state_dir)}",
    ]
    if state_dir != STATE_DIR and not _is_of_the_service(target):  # /run/sttd is the service's
        lines += ["", "[control]"]
        lines.append(f"endpoint = {_quoted(f'ipc://{state_dir}/control.sock')}")
        lines.append(f"events = {_quoted(f'ipc://{state_dir}/events.sock')}")
        lines.append('group = ""')
    engine = wishes.engine or "azure"
    lines += ["", "[engine]", f"name = {_quoted(engine)}"]
    if engine == "azure":
        lines += ["", "[engine.azure]"]
        for key in (*PLACES, "resource_id", "auth", "key"):
            if value := getattr(wishes, key):
                lines.append(f"{key} = {_quoted(value)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's escapes are among TOML's, but for the DEL character."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def default_target(etc: Path = ETC) -> Path:
    """The file to write when none was named."""
    whole = etc / "sttd.toml"
    return etc / "conf.d" / "10-init.toml" if os.path.lexists(whole) else whole


def look_at(target: Path) -> None:
    """Find what would be in the way, before anything is asked.

    Raises:
        FileExistsError: something is there already.
        OSError: nobody could write there, or not this user.
    """
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already; change it, or choose another by -o")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"No such file or directory: {target.parent}; mkdir -p it, or choose -o"
        )
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{target.parent} is not yours to write to; ask as root, or choose -o"
        )


def place(text: str, target: Path, engine_check: EngineCheck) -> list[Problem]:
    """Check the text and put it there, whole or not at all; what was found, errors and warnings.

    Raises:
        FileExistsError: something is there already; it is left alone.
        OSError: the file cannot be written.
    """
    look_at(target)
    number, name = tempfile.mkstemp(prefix=".sttd-init-", suffix=".toml", dir=target.parent)
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(number, 0o644)  # the service's user reads it; there are no secrets in it
            os.fsync(number)
        problems = check(name, engine_check=engine_check, engine_trial=refusal)
        found = [_at(problem, name, target) for problem in problems]
        if not _wrong(found):
            os.link(name, target)  # unlike a rename, it replaces nothing
            if _is_overlay(target):
                found = _with_the_others(target, engine_check)
        return [problem for problem in found if not _is_a_next_step(problem)]
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _wrong(found: list[Problem]) -> bool:
    return any(problem.level == "error" for problem in found)


def _is_a_next_step(problem: Problem) -> bool:
    """The key is not there yet: `next_steps` says how it gets there."""
    return problem.level == "warning" and problem.key == "engine.azure.key"


def _is_overlay(target: Path) -> bool:
    return target.parent == ETC / "conf.d"


def _is_of_the_service(target: Path) -> bool:
    return target == ETC / "sttd.toml" or _is_overlay(target)


def _with_the_others(target: Path, engine_check: EngineCheck) -> list[Problem]:
    """What is wrong with all files together; then the new one is taken back."""
    found = check(engine_check=engine_check)
    if _wrong(found):
        target.unlink()
    return found


def _at(problem: Problem, name: str, target: Path) -> Problem:
    return msgspec.structs.replace(problem, where=problem.where.replace(name, str(target)))


def next_steps(wishes: Wishes, target: Path) -> str:
    """What to do now, one step a line, to be typed as it stands."""
    service = _is_of_the_service(target)
    here = "" if service else f" -c {target}"
    steps = []
    if wishes.engine == "azure" and wishes.key:
        file, name = f"/etc/sttd/credentials/{wishes.key}", variable_of(wishes.key)
        steps.append(
            f"put the key there, end by Ctrl-D:  install -m 640 -g sttd /dev/stdin {file}"
            if service
            else f"type the key, unseen:  read -rs {name} && export {name}"
        )
    if service and wishes.state_dir not in (None, STATE_DIR):
        steps.append(f'let the service use {wishes.state_dir}: "Another folder", docs/install.md')
    steps.append(f"try the engine:    sttd check-engine{here}")
    if service:
        steps.append("start the daemon:  systemctl enable --now sttd")
    else:
        steps.append(f"start the daemon:  sttd{here}")
    steps.append(f"drop a recording into {wishes.state_dir or STATE_DIR}/inbox")
    if not service:
        steps.append(f"look at it:        STTD_CONFIG={target} sttctl status")
    return "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, 1))
