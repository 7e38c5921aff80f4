"""The comparison in a terminal, wide and narrow."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from fewpairs.report import Comparison, Row, print_comparison


def printed(comparison: Comparison, width: int) -> str:
    stream = io.StringIO()
    print_comparison(comparison, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


@pytest.mark.parametrize(("width", "tables"), [(200, 1), (80, 2), (40, 5)])
def test_wide_and_narrow_terminals_hold_the_same_numbers(comparison: Comparison, width: int, tables: int) -> None:
    text = printed(comparison, width)
    assert text.count("Recipe") == tables
    for expected in ("QKV against KV", "1.06 M", "−8.5 %", "0.830", "−0.004", "reference", "non-inferior"):
        assert expected in text
    assert "KV: Against QKV: 8.5 % fewer parameters" in text


def test_names_are_not_markup(row_maker: Callable[..., Row], comparison_maker: Callable[..., Comparison]) -> None:
    text = printed(comparison_maker(row_maker("[red]a[/red]", "kv", 0), row_maker("[b]", "kv", 1)), 200)
    assert "[red]a[/red]" in text
    assert "[b]" in text
