"""The verb memory: what the workers' memory is made of, where it goes, and its picture."""

from __future__ import annotations

import os

import click

from sttd.ctl.session import Session, json_option, pass_session, print_json

KINDS = (".svg", ".png")


@click.command()
@click.option("--deep", is_flag=True, help="Idle workers count their objects by type, too.")
@click.option(
    "--plot", "picture", metavar="FILE", type=click.Path(dir_okay=False),
    help="Draw every worker's memory over time into FILE, .svg or .png.",
)  # fmt: skip
@json_option
@pass_session
def memory(session: Session, deep: bool, picture: str | None) -> None:
    """Show the workers' memory, what is in it, and which rule will recycle them when.

    Idle workers are asked what is in their memory; busy ones are not disturbed.
    """
    if picture is not None:
        if deep:
            raise click.UsageError("either --deep or --plot")
        _draw(session, picture)
        return
    view = session.client.memory(deep=deep)
    if session.json:
        print_json(view)
        return
    from sttd.ctl import heap  # noqa: PLC0415 - rich is slow to import

    heap.show(view)


def _draw(session: Session, path: str) -> None:
    kind = os.path.splitext(path)[1].lower()
    if kind not in KINDS:
        raise click.UsageError(f"--plot {path}: a picture is FILE.svg or FILE.png")
    view = session.client.memory_history()
    from sttd.ctl.plot import plot  # noqa: PLC0415 - only for a picture

    scene = plot(view)
    if kind == ".svg":
        from sttd.ctl.svg import svg  # noqa: PLC0415

        data = svg(scene).encode()
    else:
        from sttd.ctl.png import png  # noqa: PLC0415

        data = png(scene)
    with open(path, "wb") as file:
        file.write(data)
    if session.json:
        print_json(view)
    else:
        click.echo(path)
