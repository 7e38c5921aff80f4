"""Tables in a terminal: words wrap, numbers stay whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewpairs.safe_text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WORDS = 24
"""Characters to which a narrow terminal may reduce a column of words."""


def print_table(console: Console, table: Table) -> None:
    """Print a table whose cells are text, so that no number loses a digit.

    In a terminal that is too narrow, columns of words (those aligned to the left) wrap. If that is not enough, lines
    are longer than the terminal is wide, and it wraps them.
    """
    fit = Fit(table)
    if fit.widest <= console.width:
        console.print(table)
        return
    widths = fit.widths(console.width)
    for column, width in zip(table.columns, widths, strict=True):
        column.width, column.no_wrap, column.overflow = width, False, "fold"
    before, console.width = console.width, max(console.width, sum(widths) + fit.frame)
    try:
        console.print(table, crop=False)
    finally:
        console.width = before


class Fit:
    """The widths that the columns of a table can take."""

    def __init__(self, table: Table) -> None:
        cells = [[_lines(text) for text in (column.header, *column.cells)] for column in table.columns]
        self.words = [column.justify == "left" for column in table.columns]
        self.most = [max(max(map(len, lines)) for lines in column) for column in cells]
        self.least = [
            min(most, _WORDS) if words else max(_longest_word(column[0]), *map(_uncut, column[1:]), 0)
            for column, words, most in zip(cells, self.words, self.most, strict=True)
        ]
        self.frame = table._extra_width + sum(table._get_padding_width(place) for place in range(len(self.most)))

    @property
    def widest(self) -> int:
        """The characters of a line if nothing wraps."""
        return sum(self.most) + self.frame

    def widths(self, width: int) -> list[int]:
        """Widths that together take `width` characters if they can, and otherwise as few as numbers allow."""
        found = list(self.least)
        for place, most in enumerate(self.most):
            spare = width - self.frame - sum(found)
            found[place] += max(0, min(spare, most - found[place]))
        return found


def _lines(text: object) -> list[str]:
    from rich.text import Text

    plain = visible(text.plain if isinstance(text, Text) else str(text))
    return plain.splitlines() or [""]


def _uncut(lines: list[str]) -> int:
    """The characters that a cell needs: lines with digits stay whole, others may wrap."""
    return max(len(line) if any(map(str.isdigit, line)) else min(len(line), _WORDS) for line in lines)


def _longest_word(lines: list[str]) -> int:
    return max((len(word) for line in lines for word in line.split()), default=0)
