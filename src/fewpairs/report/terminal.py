"""Prints a comparison in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fewpairs.report import score_text
from fewpairs.report.comparison import Comparison
from fewpairs.report.table import VERDICT, Cell, Table, summary_table
from fewpairs.terminal import Fit, print_table

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console
    from rich.text import Text

_STYLES = {"": "", "better": "bold green", "worse": "bold red"}
_GAP = 2
"""Spaces between columns."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the summary, split into several tables where the width requires it, and one sentence for each recipe."""
    from rich.text import Text

    summary = summary_table(comparison)
    console.print(Text(comparison.title, style="bold"))
    console.print(Text(summary.caption, style="dim"))
    for columns in _fitting(summary, console.width):
        console.print()
        print_table(console, _table(summary, columns))
    console.print()
    for row in comparison.rows[1:]:
        sentence = score_text.headline(comparison, row)
        console.print(Text.assemble((row.label, "bold"), ": ", sentence), soft_wrap=not console.is_terminal)


def _fitting(content: Table, width: int) -> list[list[int]]:
    """The columns of each table, which all begin with the first column, so that no cell is broken."""
    name, *others = Fit(_table(content, range(len(content.columns)))).least
    tables: list[list[int]] = []
    left = 0
    for index, wanted in enumerate(others, start=1):
        if not tables or wanted + _GAP > left:
            tables.append([0])
            left = width - name
        tables[-1].append(index)
        left -= wanted + _GAP
    return tables


def _table(content: Table, columns: Sequence[int]) -> rich.table.Table:
    import rich.table
    from rich.text import Text

    table = rich.table.Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), collapse_padding=True)
    for index in columns:
        words = index == 0 or content.columns[index] == VERDICT
        table.add_column(Text(content.columns[index]), justify="left" if words else "right", vertical="top")
    for row in content.rows:
        table.add_row(*(_text(row[index]) for index in columns))
    return table


def _text(cell: Cell) -> Text:
    from rich.text import Text

    text = Text(cell.text, style=_STYLES[cell.tone])
    return text.append(f"\n{cell.detail}", style="dim") if cell.detail else text
