"""Tables that fit the terminal they are on: they lose whole columns, never the end of a number.

Needs rich. Knows nothing of what is in the columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

GAP = 2  # cells between two columns

# What a cell shows; a pair is the whole and what is shown where there is little room.
Cell = str | Text | tuple[str | Text, str | Text]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column; `least` cells are enough for one whose text may be folded, 0: it is never cut."""

    title: str
    right: bool = False
    least: int = 0


class Fitted:
    """A table to be printed.

    `narrowing` says what to do, step by step, while it is too wide: "~age" takes the short
    variants in the column of that title, "age" leaves the column out. `tells`: which are left
    out is said below.
    """

    def __init__(self, *columns: Column, narrowing: Sequence[str] = (), tells: bool = True) -> None:
        self.columns = columns
        self.narrowing = narrowing
        self.tells = tells
        self.rows: list[tuple[Cell, ...]] = []

    def add(self, *cells: Cell) -> None:
        """One more row, a cell for each column."""
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's protocol: the table, and which columns it has no room for."""
        short: set[str] = set()
        left_out: list[str] = []
        for step in self.narrowing:
            if self._width(short, left_out) <= options.max_width:
                break
            if step.startswith("~"):
                short.add(step[1:])
            else:
                left_out.append(step)
        table = self._table(options.max_width, short, left_out)
        for line in console.render_lines(table, options, pad=False):
            yield from _bare(line)
            yield Segment.line()
        lost = [c for i, c in enumerate(self.columns) if c.title in left_out and self._has(i)]
        if lost and self.tells:
            names = ", ".join(column.title for column in lost)
            yield Text(f"no room for {names}: a wider terminal, or --json", style="dim")

    def _has(self, index: int) -> bool:
        return any(_variant(row[index], short=False) for row in self.rows)

    def _shown(self, left_out: Sequence[str]) -> Iterator[tuple[int, Column]]:
        return ((i, c) for i, c in enumerate(self.columns) if c.title not in left_out)

    def _widest(self, index: int, column: Column, short: set[str]) -> int:
        cells = (_variant(row[index], short=column.title in short) for row in self.rows)
        return max(len(column.title), *(cell.cell_len for cell in cells), 0)

    def _width(self, short: set[str], left_out: Sequence[str]) -> int:
        """What it needs at least."""
        widths = [
            min(self._widest(i, column, short), column.least or 1 << 16)
            for i, column in self._shown(left_out)
        ]
        return sum(widths) + GAP * (len(widths) - 1)

    def _table(self, room: int, short: set[str], left_out: Sequence[str]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        shown = list(self._shown(left_out))
        spare = room - self._width(short, left_out)
        for i, column in shown:
            width = self._widest(i, column, short)
            if column.least and width > column.least:
                more = min(width - column.least, max(0, spare))
                spare -= more
                width = column.least + more
            table.add_column(
                column.title.upper(),
                justify="right" if column.right else "left",
                overflow="fold",
                min_width=width,
                max_width=width,
            )
        for row in self.rows:
            table.add_row(*(_variant(row[i], short=column.title in short) for i, column in shown))
        return table


def _bare(line: list[Segment]) -> list[Segment]:
    """The line without blanks at its end: for one long error, every line would have hundreds."""
    while line and not line[-1].text.strip():
        line.pop()
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else line


def _variant(cell: Cell, *, short: bool) -> Text:
    if isinstance(cell, tuple):
        cell = cell[short]
    return Text(cell) if isinstance(cell, str) else cell
