"""`make man`: the manual pages, from what --help is made of and from the shipped configuration.

    python -m scripts.man

Writes man/sttd.8, man/sttctl.1 and man/sttd.toml.5. Options and commands are click's own, keys,
types and defaults the configuration's, what is said of a key stands in etc/sttd.toml, examples in
the README. Only what no program knows (signals, exit codes, files) is written here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from scripts import roff, shipped
from sttd import __version__, cli
from sttd.config.conversion import describe
from sttd.config.environment import variable_of
from sttd.config.schema import KEYS
from sttd.ctl import main as ctl

ROOT = Path(__file__).resolve().parents[1]
VERSION = f"sttd {__version__}"

CONFIGURATION = (
    (("/etc/sttd/sttd.toml",), "The configuration, where neither -c nor $STTD_CONFIG names one."),
    (("/etc/sttd/conf.d/*.toml",), "Laid over it, in the order of their names."),
)
FILES_OF_STTD = (
    *CONFIGURATION,
    (("/etc/sttd/credentials/",), "Credentials, a file each, refused when others can read them."),
    (("/var/lib/sttd/inbox/", "/var/lib/sttd/outbox/"), "Recordings come in, transcripts go out."),
    (("/var/lib/sttd/done/", "/var/lib/sttd/failed/"), "Originals, and why those failed."),
    (("/var/lib/sttd/spool/", "/var/lib/sttd/ledger/"), "Jobs under way and the record of all."),
    (("/run/sttd/control.sock", "/run/sttd/events.sock"), "Where sttctl and clients connect."),
)
SIGNALS = (
    (
        ("SIGTERM", "SIGINT"),
        "Drain: no job starts, running ones have `drain_timeout` left. A second one does not wait.",
    ),
    (("SIGHUP",), "Read the configuration again, as `sttctl reload` does."),
)
EXIT_OF_STTD = (
    (("0",), "Stopped in order; the command did what it was asked."),
    (("1",), "It could not go on; for run-once and the checks: something failed."),
    (("2",), "The configuration or the usage is wrong, or the engine cannot be loaded."),
    (("3",), "Another sttd holds the state directory."),
)
EXIT_OF_STTCTL = (
    (("0",), "Done."),
    (("1",), "The request was refused, or a job failed."),
    (("2",), "The usage is wrong."),
    (("4",), "No daemon answers."),
    (("5",), "Timed out waiting."),
)
ENVIRONMENT_OF_STTD = (
    (("STTD_CONFIG",), "The configuration file, where -c names none."),
    (("STTD_SECTION__KEY",), "A key of the configuration; see sttd.toml(5)."),
    (("STTD_CREDENTIAL_NAME",), "A credential, where $CREDENTIALS_DIRECTORY does not have it."),
)
ENVIRONMENT_OF_STTCTL = (
    (("STTD_SOCKET",), "The daemon's control socket, where --socket names none."),
    (("STTD_CONFIG",), "The daemon's configuration, in which its socket is looked up."),
    (("STTD_KEYS",), "The file of CURVE keys, where --keys names none."),
    (("NO_COLOR",), "Where set and not empty, nothing is coloured."),
)
Rows = tuple[tuple[tuple[str, ...], str], ...]


# -- commands ----------------------------------------------------------------------------------
def help_of(command: click.Command) -> str:
    r"""A command's own text as roff; what click keeps as it is (after a \b) is verbatim."""
    out = []
    for part in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        lines = part.splitlines()
        out.append(
            roff.verbatim(line.strip() for line in lines[1:])
            if lines and lines[0].strip() == "\b"
            else roff.paragraph(part)
        )
    return "".join(out)


def usage(context: click.Context) -> str:
    """How a command is called."""
    pieces = context.command.collect_usage_pieces(context)
    words = [roff.bold(context.command_path)]
    words += [roff.italic(piece.removesuffix("...")) + "..." * piece.endswith("...")
              for piece in " ".join(pieces).split()]  # fmt: skip
    return " ".join(words)


def options(context: click.Context) -> Iterator[str]:
    """The options of a command, without --help, which all have."""
    helps = set(context.help_option_names)
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record and helps.isdisjoint(parameter.opts) and isinstance(parameter, click.Option):
            yield roff.item([_option(record[0])], record[1])


def _option(text: str) -> str:
    """`-c, --config FILE` as roff: names in bold, values in italics."""
    words = re.split(r"( |, )", text)
    return "".join(
        word if word in (" ", ", ") else roff.bold(word) if word[:1] == "-" else roff.italic(word)
        for word in words
    )


def verbs(context: click.Context) -> Iterator[click.Context]:
    """Every command beneath this one that does something, in the order of --help."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        below = click.Context(command, info_name=name, parent=context, **command.context_settings)
        if isinstance(command, click.Group):
            yield from verbs(below)
        else:
            yield below


def commands(context: click.Context) -> str:
    """The section on commands."""
    out = [roff.heading("COMMANDS")]
    for verb in verbs(context):
        name = verb.command_path.partition(" ")[2]
        out += [roff.subheading(name), f"{usage(verb)}\n", help_of(verb.command), *options(verb)]
    return "".join(out)


def table(name: str, rows: Rows) -> str:
    """A section that explains names."""
    items = (roff.item(map(roff.bold, names), text) for names, text in rows)
    return roff.heading(name) + "".join(items)


def see_also(*pages: str) -> str:
    """The last section."""
    return roff.heading("SEE ALSO") + ", ".join(
        f"{roff.bold(name)}({section})" for name, _, section in (p.rpartition(".") for p in pages)
    ) + "\n"  # fmt: skip


def _page(command: click.Group, name: str, section: int, manual: str, says: str) -> str:
    context = click.Context(command, info_name=name, **command.context_settings)
    return "".join(
        (
            roff.title(name, section, VERSION, manual),
            roff.heading("NAME"),
            rf"{name} \- {roff.literal(says)}" + "\n",
            roff.heading("SYNOPSIS"),
            f"{usage(context)}\n",
            roff.heading("DESCRIPTION"),
            help_of(command),
            roff.heading("OPTIONS"),
            *options(context),
            roff.item([_option("-h, --help")], "Say how it is used. Every command has this."),
            commands(context),
        )
    )


def sttd_8() -> str:
    """The page of the daemon."""
    return "".join(
        (
            _page(cli.main, "sttd", 8, "System Administration", "turn recordings into transcripts"),
            table("SIGNALS", SIGNALS),
            table("EXIT STATUS", EXIT_OF_STTD),
            table("ENVIRONMENT", ENVIRONMENT_OF_STTD),
            table("FILES", FILES_OF_STTD),
            see_also("sttctl.1", "sttd.toml.5", "systemctl.1", "journalctl.1"),
        )
    )


def sttctl_1(readme: str) -> str:
    """The page of sttctl; its examples are the README's, which a test runs."""
    examples = (
        readme.partition("## sttctl at a glance")[2].partition("```sh\n")[2].partition("```")[0]
    )
    return "".join(
        (
            _page(ctl.cli, "sttctl", 1, "User Commands", "talk to a running sttd"),
            table("EXIT STATUS", EXIT_OF_STTCTL),
            table("ENVIRONMENT", ENVIRONMENT_OF_STTCTL),
            table("FILES", CONFIGURATION),
            roff.heading("EXAMPLES"),
            roff.verbatim(examples.splitlines()),
            see_also("sttd.8", "sttd.toml.5"),
        )
    )


# -- the configuration -------------------------------------------------------------------------
def says(lines: tuple[str, ...]) -> Iterator[str]:
    """A comment's paragraphs: prose, and tables as lists of names."""
    for part in shipped.paragraphs(lines):
        if part.tabular:
            rows = map(shipped.cells, part.lines)
            yield "".join(roff.item([roff.bold(name)], said) for name, said in rows)
        else:
            yield f"{roff.prose(' '.join(part.lines))}\n"


def alone(lines: tuple[str, ...]) -> str:
    """A comment that belongs to no key."""
    return "".join(part if part.startswith(".TP") else f".PP\n{part}" for part in says(lines))


def beneath(parts: Iterable[str]) -> str:
    """What follows a tag: paragraphs and tables, all at its indentation."""
    first, *rest = parts
    return first + "".join(
        f".RS\n{part}.RE\n" if part.startswith(".TP") else f".IP\n{part}" for part in rest
    )


def keys(group: shipped.Group) -> str:
    """The keys that are explained together: their defaults, what is said, types and variables."""
    if not group.keys:
        return alone(group.lines)
    short = [key.name.rpartition(".")[2] for key in group.keys]
    named = list(zip(short, group.keys, strict=True))
    parts = [*says(group.lines)]
    parts += [f"{roff.prose(f'`{name}`: {key.remark}')}\n" for name, key in named if key.remark]
    kinds = "; ".join(dict.fromkeys(describe(KEYS[key.name].kind) for key in group.keys))
    variables = ", ".join(variable_of(key.name) for key in group.keys)
    parts.append(f"{roff.literal(kinds[:1].upper() + kinds[1:])}. {roff.italic(variables)}\n")
    tags = (f"{roff.bold(name)} = {roff.literal(key.value)}" for name, key in named)
    return roff.tags(tags) + beneath(parts)


def sttd_toml_5(text: str) -> str:
    """The page of the configuration."""
    out = [
        roff.title("sttd.toml", 5, VERSION, "File Formats"),
        roff.heading("NAME"),
        r"sttd.toml \- configuration of sttd(8)" + "\n",
        roff.heading("DESCRIPTION"),
    ]
    out.append(alone(shipped.head(text)[1:]))
    out.append(roff.heading("KEYS"))
    for section in shipped.sections(text):
        if section.name:
            out.append(roff.subheading(f"[{section.name}]"))
        if section.title:
            out.append(roff.paragraph(section.title))
        out += map(keys, section.groups)
    out += [table("FILES", CONFIGURATION), see_also("sttd.8", "sttctl.1")]
    return "".join(out)


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    made = {
        "sttd.8": sttd_8(),
        "sttctl.1": sttctl_1((ROOT / "README.md").read_text()),
        "sttd.toml.5": sttd_toml_5((ROOT / "etc" / "sttd.toml").read_text()),
    }
    return {name: roff.tidy(text) for name, text in made.items()}


def main() -> None:
    """Write them."""
    for name, text in pages().items():
        (ROOT / "man" / name).write_text(text)


if __name__ == "__main__":
    main()
