"""The verb keygen: keys for a control socket on tcp. Needs no daemon and overwrites nothing."""

from __future__ import annotations

import os
from pathlib import Path

import click
import zmq

from sttd.ctl.session import print_json

SERVER = "server"


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", default="client", show_default=True, help="What the client is called.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def keygen(folder: Path, name: str, *, as_json: bool) -> None:
    """Make CURVE keys in DIR: the daemon's, where they are missing, and a client's.

    \b
    server.key  secret; the daemon's credential (control.curve_server_key names it)
    server.pub  public
    NAME.key    secret; give it to the client: sttctl --keys NAME.key (or $STTD_KEYS)
    NAME.pub    public; goes into the folder control.curve_clients
    """  # noqa: D301 - click's mark is a real backspace
    if name == SERVER or not name or Path(name).name != name or name.startswith("."):
        raise click.UsageError(f"{name!r} cannot be a client's name")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made: list[str] = []
    if not (folder / f"{SERVER}.pub").exists():
        public, secret = zmq.curve_keypair()
        made += _pair(folder, SERVER, public, secret.decode() + "\n")
    server = (folder / f"{SERVER}.pub").read_text().strip()
    public, secret = zmq.curve_keypair()
    keys = {"server": server, "public": public.decode(), "secret": secret.decode()}
    # a Z85 key has neither backslash nor single quote, so a literal string of TOML holds it
    text = "".join(f"{key} = '{value}'\n" for key, value in keys.items())
    made += _pair(folder, name, public, text)
    if as_json:
        print_json({"files": made})
    else:
        for path in made:
            click.echo(path)


def _pair(folder: Path, name: str, public: bytes, private: str) -> list[str]:
    """Write NAME.key and then NAME.pub; both or a click.ClickException."""
    files = ((folder / f"{name}.key", private, 0o600), (folder / f"{name}.pub", None, 0o644))
    for path, text, mode in files:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise click.ClickException(f"{path} exists and is left as it is") from None
        with open(descriptor, "w") as file:
            file.write(public.decode() + "\n" if text is None else text)
    return [str(path) for path, _, _ in files]
