"""A comparison in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from latchkey.report import wording
from latchkey.report.comparison import Comparison
from latchkey.report.table import Cell, Table, summary_table

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console
    from rich.text import Text

_STYLES = {"": "", "better": "bold green", "worse": "bold red"}
_WIDE = 150
"""Width of the terminal from which cost and scores fit side by side."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the summary table (cost above scores where the terminal is narrow) and one sentence a recipe."""
    from rich.text import Text

    summary = summary_table(comparison)
    last = len(summary.columns)
    titles = {wording.title(name) for name in wording.MAIN}
    split = next((place for place, title in enumerate(summary.columns) if title in titles), last)
    console.print(Text(comparison.title, style="bold"))
    console.print(Text(summary.caption, style="dim"))
    for columns in [range(1, last)] if console.width >= _WIDE else [range(1, split), range(split, last)]:
        console.print()
        console.print(_table(summary, (0, *columns)))
    console.print()
    for row in comparison.rows[1:]:
        sentence = wording.headline(row, comparison.reference, comparison.headline, comparison.confidence)
        console.print(Text.assemble((row.label, "bold"), ": ", sentence), soft_wrap=not console.is_terminal)


def _table(content: Table, columns: Iterable[int]) -> rich.table.Table:
    import rich.table
    from rich.text import Text

    table = rich.table.Table(box=None, pad_edge=False, padding=(0, 1))
    chosen = list(columns)
    for index in chosen:
        table.add_column(
            Text(content.columns[index]), justify="left" if index == 0 else "right", vertical="top", overflow="fold"
        )
    for row in content.rows:
        table.add_row(*(_text(row[index]) for index in chosen))
    return table


def _text(cell: Cell) -> Text:
    from rich.text import Text

    text = Text(cell.text, style=_STYLES[cell.tone])
    return text.append(f"\n{cell.detail}", style="dim") if cell.detail else text
