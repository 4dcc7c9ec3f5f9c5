"""The verb config: the configuration that the daemon has in force."""

from __future__ import annotations

import click

from sttd.ctl import human
from sttd.ctl.completing import complete_section
from sttd.ctl.session import Session, json_option, pass_session, print_json
from sttd.wire.lives import ConfigView, SettingView


@click.group()
def config() -> None:
    """Look at the daemon's configuration."""


@config.command()
@click.option("--changed", is_flag=True, help="Only what is not at its default.")
@click.argument("section", required=False, shell_complete=complete_section)
@json_option
@pass_session
def show(session: Session, section: str | None, changed: bool) -> None:
    """Show the values in force, of all keys or of one SECTION, and where each comes from."""
    found = session.client.config()
    sections = {one.key.rpartition(".")[0] for one in found} | {one.key for one in found}
    if section is not None and not any(_within(name, section) for name in sections):
        raise click.UsageError(f"there is no section {section!r}; {_meant(section, sections)}")
    fit = tuple(
        one
        for one in found
        if (section is None or _within(one.key, section))
        and not (changed and one.origin == "default")
    )
    if session.json:
        print_json(ConfigView(settings=fit))
        return
    _print(fit)


def _meant(section: str, known: set[str]) -> str:
    import difflib  # noqa: PLC0415 - only for a slip of the fingers

    near = difflib.get_close_matches(section, sorted(known), n=1)
    tops = sorted({name.partition(".")[0] for name in known if name})
    return f"did you mean {near[0]!r}?" if near else f"those are {', '.join(tops)}"


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _print(settings: tuple[SettingView, ...]) -> None:
    from rich.text import Text  # noqa: PLC0415 - slow to import

    from sttd.ctl import views  # noqa: PLC0415
    from sttd.ctl.tables import Column, Fitted  # noqa: PLC0415

    table = Fitted(
        Column(title="key"), Column(title="value", least=16), Column(title="from", least=20)
    )
    for one in settings:
        style = "dim" if one.origin == "default" else ""
        table.add(
            one.key, human.plain(human.toml(one.value)), Text(human.plain(one.origin), style=style)
        )
    views.console().print(table)
