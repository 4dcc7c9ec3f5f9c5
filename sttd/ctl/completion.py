"""The verb completion: the script that makes a shell complete sttctl's words."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_STTCTL_COMPLETE"  # click's name for it


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash:  sttctl completion bash > ~/.local/share/bash-completion/completions/sttctl
    zsh:   sttctl completion zsh  > a folder of $fpath, as _sttctl
    fish:  sttctl completion fish > ~/.config/fish/completions/sttctl.fish
    """  # noqa: D301 - click wants the control character
    kind = get_completion_class(shell)
    assert kind is not None
    from sttd.ctl.main import cli  # noqa: PLC0415 - main imports this module

    script = kind(cli, {}, "sttctl", VARIABLE)
    if isinstance(script, BashComplete):
        # without the look at the version of the bash that is there: the script is for any
        click.echo(script.source_template % script.source_vars())
        return
    click.echo(script.source())
