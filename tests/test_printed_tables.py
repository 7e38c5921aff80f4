"""Tables in terminals of any width: no number loses a digit, no column vanishes."""

from __future__ import annotations

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.table import Table

from fewpairs.terminal import print_table

numbers = st.floats(-1e6, 1e6).map(lambda value: f"{value:.3f}")
cells = st.one_of(numbers, st.tuples(numbers, numbers).map(" to ".join), st.sampled_from(["", "–", "1\n22\n333"]))
words = st.lists(st.sampled_from(["encoder", "a", "conv_setr_cup_r50_vit_b16", "[red]"]), min_size=1).map(" ".join)


def printed(table: Table, width: int) -> str:
    stream = io.StringIO()
    print_table(Console(file=stream, width=width, color_system=None, markup=False), table)
    return stream.getvalue()


@given(st.data(), st.integers(1, 6), st.integers(1, 4), st.integers(10, 200), st.booleans())
def test_no_number_loses_a_digit(data: st.DataObject, columns: int, rows: int, width: int, boxed: bool) -> None:
    from rich.text import Text

    table = Table("name", box=HEAVY_HEAD if boxed else None)
    for index in range(columns):
        table.add_column(f"Column {index}", justify="right")
    table.add_column("what it is")
    shown = []
    for _ in range(rows):
        name, *row, what = (
            data.draw(words),
            *(data.draw(cells) for _ in range(columns)),
            data.draw(words),
        )
        shown += [part for cell in row for part in cell.splitlines()]
        table.add_row(Text(name), *row, Text(what))
    text = printed(table, width)
    for part in shown:
        assert part in text
    assert text.count("Column") == columns
    if (needed := max(map(len, text.splitlines()))) > width:
        assert needed <= 2 * 24 + sum(max(len(part) for part in [*shown, "Column 0"]) + 3 for _ in range(columns)) + 7


def test_words_wrap_where_the_terminal_is_narrow() -> None:
    table = Table("name", box=None)
    table.add_column("interval", justify="right")
    table.add_row("dice", "only one case defines this score: an interval over cases needs at least two")
    table.add_row("jaccard", "0.1634 to 0.1987")
    text = printed(table, 40)
    assert max(map(len, text.splitlines())) <= 40
    assert re.search(r"jaccard +0\.1634 to 0\.1987", text)
    assert "needs at least two" in " ".join(text.split())
