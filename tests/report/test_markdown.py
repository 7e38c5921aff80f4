"""Markdown that renders as tables whatever the names contain."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fewpairs.report import Comparison, Row, comparison_markdown
from fewpairs.report.markdown import markdown_table
from fewpairs.report.table import Cell, Table
from fewpairs.safe_text import markdown as escape


def test_the_page_holds_verdict_table_and_measurement(comparison: Comparison) -> None:
    text = comparison_markdown(comparison)
    assert text.startswith("# QKV against KV\n\n- **KV**: Against QKV: 8.5 % fewer parameters")
    assert "| KV (kv) | 0.97 M (−8.5 %) | 0.20 G (−4.8 %) |" in text
    assert "- **Command**: fewpairs compare qkv kv --seeds 2\n" in text
    assert "- **Settings**: steps = 30<br>optimizer.name = adamw<br>optimizer.betas = 0.9, 0.999\n" in text
    assert text.endswith("- Seed 1 of KV stopped early.\n")


@given(st.lists(st.text(max_size=15), min_size=2, max_size=2))
def test_no_text_breaks_a_table(texts: list[str]) -> None:
    label, detail = texts
    table = Table("c", ("Recipe", "Score"), ((Cell(label, detail), Cell("1", detail)),))
    lines = markdown_table(table).split("\n")
    assert len(lines) == 5
    body = lines[-1]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", body)) == 3


def test_markup_and_html_are_shown_as_text(comparison: Comparison, row_maker: Callable[..., Row]) -> None:
    text = comparison_markdown(replace(comparison, title="*a* <b>", rows=(row_maker("<script>x|y", "kv", 0),)))
    assert "<script>" not in text
    assert "<b>" not in text
    assert r"\<script\>x\|y" in text
    assert escape("a\nb") == "a b"
